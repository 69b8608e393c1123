"""The page of experiment/report.py shows what the runs' files say."""

import json
import os
import re
import shutil
import sys
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from PIL import Image

import train
from common import UserError
from experiment import evaluate, report

ROOT = Path(__file__).parent.parent
LOG = "step,d_loss,g_loss,d_real,d_fake,gamma_g,gamma_d,images_per_s,fid\n"
METRICS = "step,count,distance,kid,precision,recall,dogs,breeds,big,nearest,far\n"


def make_run(folder, *arguments, d_loss=((500, 1.2), (1000, 0.9)), distance=(), photos="0123456789"):
    """A run folder as train.py and evaluate.py leave it, with the options of a command line."""
    options = train.parse_options(["--data", str(ROOT / "tests"), "--out", str(folder), *arguments])
    options = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    options["attn_at"] = [32] if options["no_disc_attn"] else [16, 32]
    (folder / "samples").mkdir(parents=True)
    config = {"options": options, "size": 64, "photos": 2, "photos_sha256": photos}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    gamma = "0.1" if options["no_disc_attn"] else f"0.1 {0.3 * (-1) ** options['seed']}"  # the sign means nothing
    rows = [f"{step},{loss},1.5,0.6,0.4,{gamma},,90,\n" for step, loss in d_loss]
    (folder / "log.csv").write_text(LOG + "".join(rows), encoding="utf-8")
    rows = [f"{step},2000,{value},30,0.7,0.2,0.6,60,0.3,,0.8\n" for step, value in distance]
    if distance:
        (folder / "metrics.csv").write_text(METRICS + "".join(rows), encoding="utf-8")
    Image.new("RGB", (530, 530), "red").save(folder / f"samples/{d_loss[-1][0]:06d}.png")
    return folder


def make_whole_run(folder, *arguments):
    """A run with a file of every kind that the page draws."""
    make_run(folder, *arguments, distance=[(500, 200), (1000, 90)])
    shutil.copy(folder / SHEETS[1], folder / SHEETS[0])
    (folder / "fid.csv").write_text("step,count,fingerprint,fid\n500,5000,0a1b,80.5\n1000,5000,0a1b,41.25\n")
    return folder


def make_page(monkeypatch, *folders):
    """The page that `python -m experiment.report FOLDERS` writes into the working directory."""
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, folders)])
    report.main()
    return Path("report.html").read_text(encoding="utf-8")


def rows_of(page, name):
    """The cells of all rows of tables whose first cell is that text behind its key."""
    rows = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", page)]
    return [row[1:] for row in rows if row and re.sub("<svg.*</svg>", "", row[0]) == name]


def results_of(page, name):
    """{row's title: cell} of a variant in the table of results, whose columns are the variants."""
    first = page.split("</table>")[0]
    names = [re.sub("<svg.*</svg>", "", cell) for cell in re.findall("<th>(.*?)</th>", first)]
    rows = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", first)[1:]]
    return {row[0]: row[names.index(name)] for row in rows}


def tips(page, title):
    """What the panel of that title tells when pointed at, from step to step."""
    panel = page.split(f"<h3>{title}</h3>")[1].split("</figure>")[0]
    return re.findall("<title>(.*?)</title>", panel, re.DOTALL)


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_figures_on_the_page_are_those_of_the_files_and_seeds_are_averaged(tmp_path, monkeypatch):
    one = make_run(tmp_path / "1", "--seed=1", distance=[(500, 200), (1000, 90)])
    two = make_run(tmp_path / "2", "--seed=2", d_loss=[(500, 1.4), (1000, 1.1)], distance=[(500, 210), (1000, 94)])
    other = make_run(tmp_path / "3", "--no-disc-attn", distance=[(500, 300), (1000, 120)])
    page = make_page(monkeypatch, other, two, one)
    assert tips(page, "EfficientNet distance") == [
        "step 500\nfull: 205.0 ± 5.0\nno-disc-attn: 300.0",
        "step 1,000\nfull: 92.0 ± 2.0\nno-disc-attn: 120.0",
    ]
    assert tips(page, "Loss of D")[0] == "step 500\nfull: 1.30 ± 0.10\nno-disc-attn: 1.20"
    assert tips(page, "|Gamma| in G at 32x32") == [
        "step 500\nfull: 0.300\nno-disc-attn: 0.100",
        "step 1,000\nfull: 0.300\nno-disc-attn: 0.100",
    ]
    final = results_of(page, "full")
    assert (final["seeds"], final["EfficientNet distance"], final["Loss of D"]) == (
        "1; 2",
        "92.0 ± 2.0",
        "1.00 ± 0.10",
    )
    assert results_of(page, "no-disc-attn")["EfficientNet distance"] == "120.0"
    *stops, at_500, at_1000 = rows_of(page, "full")
    assert [row[:2] for row in stops] == [["1", "1,000"], ["2", "1,000"]]
    assert (at_500[0], at_1000[0]) == ("205.0 ± 5.0", "92.0 ± 2.0")


def test_every_figure_of_the_judge_has_its_panel():
    assert set(report.MEASURES) == {*evaluate.DIGITS, "fid"}


@pytest.mark.parametrize("file", ["metrics.csv", "fid.csv"])
@pytest.mark.parametrize("row", ["900,2000,{},1234567890ab", "900,200,{},aaaaaaaaaaaa", "900,2000,{},"])
def test_only_figures_measured_alike_are_drawn_together(tmp_path, monkeypatch, capsys, file, row):
    column, title = {"metrics.csv": ("distance", "EfficientNet distance"), "fid.csv": ("fid", "FID")}[file]
    runs = [make_run(tmp_path / str(n), f"--seed={n}") for n in (1, 2, 3)]
    like_one = "900,2000,{},aaaaaaaaaaaa uniform+bbbbbbbbbbbb" if file == "metrics.csv" else "900,2000,{},aaaaaaaaaaaa"
    for run, value, its in zip(runs, (50, 150, 60), ("900,2000,{},aaaaaaaaaaaa", row, like_one), strict=True):
        (run / file).write_text(f"step,count,{column},fingerprint\n{its.format(value)}\n")
    page = make_page(monkeypatch, *runs)
    assert tips(page, title) == ["step 900\nfull: 55.0 ± 5.0"] and len(tips(page, "Loss of D")) == 2
    assert results_of(page, "full")[f"pictures, {file}"] == "2,000; "
    assert re.findall("left out: (.*?): ", capsys.readouterr().out) == [str(runs[1] / file)]


@pytest.mark.parametrize("file", ["metrics.csv", "fid.csv"])
def test_how_most_runs_were_measured_decides_and_not_the_first_run(tmp_path, monkeypatch, capsys, file):
    column, title = {"metrics.csv": ("distance", "EfficientNet distance"), "fid.csv": ("fid", "FID")}[file]
    runs = [make_run(tmp_path / str(n), f"--seed={n}") for n in (1, 2, 3)]
    many_odd = "".join(f"{step},30,9,a\n" for step in (100, 200, 300, 400))
    mixed = "250,30,9,a\n500,60,50,a\n1000,60,30,a\n1500,60,20,b\n"
    for run, rows in zip(runs, (many_odd, "500,60,40,a\n1000,60,20,a\n", mixed), strict=True):
        (run / file).write_text(f"step,count,{column},fingerprint\n{rows}")
    page = make_page(monkeypatch, *runs)
    assert tips(page, title) == ["step 500\nfull: 45.0 ± 5.0", "step 1,000\nfull: 25.0 ± 5.0"]
    assert results_of(page, "full")[f"pictures, {file}"] == "; 60"
    assert capsys.readouterr().out.splitlines()[:-1] == [
        f"left out: {runs[0] / file}: 4 of 4 rows (count 30, the others 60)",
        f"left out: {runs[2] / file}: 2 of 4 rows (count 30, the others 60)",
    ]
    assert [len(tips(make_page(monkeypatch, *pair), title)) for pair in (runs[:2], runs[1::-1])] == [4, 2]  # a tie


def test_runs_that_differ_in_more_than_their_seeds_are_not_averaged(tmp_path, monkeypatch):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", "--batch=3"), make_run(tmp_path / "c", photos="ab" * 5)]
    (tip, _) = tips(make_page(monkeypatch, *runs), "Loss of D")
    assert tip.count("1.20") == 3 and "±" not in tip


def test_runs_of_other_code_or_of_equal_seeds_are_curves_of_their_own(tmp_path, monkeypatch):
    runs = [make_run(tmp_path / name, f"--seed={seed}") for name, seed in (("a", 1), ("b", 2), ("c", 2), ("d", 3))]
    tip = tips(make_page(monkeypatch, *runs), "Loss of D")[0]
    assert tip.count("1.20") == 3  # a and d are averaged, b and c stand alone
    for run, code in zip(runs, ("old", "old", "new", "new"), strict=True):
        config = json.loads((run / "config.json").read_text())
        config |= {"code": {"commit": f"{code}1", "changed": code == "new", "sha256": code}}
        config["options"]["fid_every"] = run.name  # an option of older runs, which changed nothing
        (run / "config.json").write_text(json.dumps(config))
    page = make_page(monkeypatch, *runs)
    assert tips(page, "Loss of D")[0].count("1.20") == 2
    one, two = (results_of(page, label) for label in ("a, seeds 1, 2", "c, seeds 2, 3"))
    assert [one[name] for name in ("seeds", "code", "commit")] == ["1; 2", "old", "old1"]
    assert [two[name] for name in ("seeds", "code", "commit")] == ["2; 3", "new", "new1, changed"]


def test_runs_that_differ_in_options_have_their_own_styles_and_rows_tell_the_options(tmp_path, monkeypatch):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", "--r1=3"), make_run(tmp_path / "c", "--no-disc-attn")]
    page = make_page(monkeypatch, *runs)
    assert len(set(re.findall(r'"line (s\d)"', page))) == 3
    assert [results_of(page, run.name)["--r1"] for run in runs] == ["0.2", "3.0", "0.2"]
    assert "--ema" not in results_of(page, "a")  # all have the same
    config = json.loads((runs[0] / "config.json").read_text())
    (runs[0] / "config.json").write_text(json.dumps(config | {"changes": ["step 600: r1 0.2 -> \ud800"]}))
    page = make_page(monkeypatch, *runs)
    assert [results_of(page, run.name)["changed at"] for run in runs] == ["step 600: r1 0.2 -&gt; \\ud800", "", ""]


@pytest.mark.parametrize("absolute", [False, True])
def test_labels_begin_behind_what_all_paths_share_and_end_with_the_seeds_of_a_mean(tmp_path, monkeypatch, absolute):
    runs = [make_run(tmp_path / f"deep/short/full-{seed}", f"--seed={seed}", "--r1=3") for seed in (1, 2)]
    runs += [
        make_run(tmp_path / "deep/full"),
        make_run(tmp_path / "deep/no-attention-in-the-discriminator", "--batch=3"),
    ]
    page = make_page(monkeypatch, *(run if absolute else run.relative_to(tmp_path) for run in runs))
    labels = ["full", "no-attention-in-the-discriminator", "short/full, seeds 1, 2"]
    assert sorted(re.findall("</svg>([^<]+)</th>", page.split("</table>")[0])) == labels
    panel = page.split("<h3>Loss of D</h3>")[1].split("</figure>")[0]
    ends = re.findall(r'<text x="([0-9.]+)" y="[0-9.]+">([^<]+)</text>', panel)[2:]
    assert sorted(label for _, label in ends) == ["full", "no-attention-in-the-disc", "short/full 1, 2"]
    assert all(float(x) + 6.2 * len(label) < report.WIDTH for x, label in ends)  # letters of 12 pixels are 6 wide


def test_one_run_by_two_paths_counts_once(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    page = make_page(monkeypatch, "run", run, "./run/", "link")
    assert results_of(page, "full")["seeds"] == "0" and len(rows_of(page, "full")) == 1  # where it stops


def test_a_curve_ends_where_its_log_does_and_marks_stand_where_their_steps_are():
    points = [(10000, 2.0, 2.0, 2.0), (20000, 1.0, 1.0, 1.0)]
    svg = report.draw([("D", "s0", points)], 20000, include=(0, 4), stops=[(10000, "s0")])
    line = re.search('polyline class="line s0" points="(.*?)"', svg)[1].split()
    (first, _), last = (tuple(map(float, point.split(","))) for point in line)
    right, bottom = report.WIDTH - report.RIGHT, report.HEIGHT - report.BOTTOM
    assert last == (right, report.TOP + (bottom - report.TOP) * 0.75)
    assert first == (report.LEFT + right) / 2 == float(re.search('class="stop s0" d="M([0-9.]+) ', svg)[1])
    assert re.findall(r'text-anchor="middle">(.*?)<', svg) == ["0.5", "2.5", "5", "10", "15", "20"]


def test_the_labels_of_the_steps_do_not_touch():
    svg = report.draw([("D", "s0", [(30000, 1.0, 1.0, 1.0)])], 30000)
    places = [float(x) for x in re.findall(r'<text x="([0-9.]+)"[^>]*text-anchor="middle"', svg)]
    assert len(places) > 4 and all(right - left > 22 for left, right in pairwise(places))


def test_a_curve_of_one_value_is_drawn():
    for value in (0.0, 3.0):
        svg = report.draw([("full", "s0", [(10, value, value, value)])], 10, include=(0,))
        x, y = map(float, re.search('polyline class="line s0" points="([0-9., ]+)"', svg)[1].split()[-1].split(","))
        assert x == report.WIDTH - report.RIGHT and report.TOP <= y <= report.HEIGHT - report.BOTTOM


def test_no_triangle_hides_another_and_no_label_another():
    stops = [(step, "s0") for step in (500, 500, 500, 510, 900, 500, 515, 900)]
    curves = [(f"label {n}", "s0", [(1000, n % 2, n % 2, n % 2)]) for n in range(8)]
    svg = report.draw(curves, 1000, stops=stops)
    triangles = [tuple(map(float, place)) for place in re.findall(r'class="stop s0" d="M([0-9.]+) ([0-9.]+)l', svg)]
    assert len(triangles) == 8 and min(y for _, y in triangles) > report.TOP
    for (x, y), (other, its) in combinations(triangles, 2):
        assert abs(x - other) >= 10 or abs(y - its) >= 9
    heights = sorted(float(y) for y in re.findall(r'y="([0-9.]+)">label', svg))
    assert len(heights) == 8 and all(below - above >= 12 for above, below in pairwise(heights))
    assert heights[0] > 8 and heights[-1] < report.HEIGHT


def test_the_stopping_rule_on_curves_of_which_one_knows_the_answer():
    falling = [(step, 100.0 - step) for step in range(1, 101)]
    assert report.stops_improving(falling) == "not yet"
    then_flat = [(step, max(100.0 - step, 60.0)) for step in range(1, 101)]
    assert 36 <= report.stops_improving(then_flat) <= 40
    rising_again = [(step, abs(step - 50.0)) for step in range(1, 101)]
    assert 46 <= report.stops_improving(rising_again) <= 50
    start_of_a_gan = [(1, 0.0), *((step + 1, value) for step, value in then_flat)]  # D wins at first: no improvement
    assert 37 <= report.stops_improving(start_of_a_gan) <= 41
    assert report.stops_improving([(step, -value) for step, value in falling]) == "never falls"
    assert report.stops_improving([]) == "never falls"
    few = [(500, 208.0), (2500, 174.0), (5000, 109.0), (7500, 108.0), (10000, 107.0)]
    assert report.stops_improving(few) == 5000


def test_the_page_says_where_each_run_stops_improving_and_the_distance_there(tmp_path, monkeypatch):
    falls = [(step, 200 - step / 100) for step in range(500, 10001, 500)]
    stops = [(step, max(200 - step / 100, 160)) for step in range(500, 10001, 500)]
    (row, *_) = rows_of(make_page(monkeypatch, make_run(tmp_path / "r", d_loss=falls, distance=stops)), "full")
    assert row[2:4] == ["not yet", "4,000 (160.0)"]


def test_the_page_names_the_figure_in_brackets(tmp_path, monkeypatch):
    run = make_whole_run(tmp_path / "run")
    assert "brackets: EfficientNet distance there" in make_page(monkeypatch, run)
    (run / "metrics.csv").unlink()
    assert "brackets: FID there" in make_page(monkeypatch, run)


@pytest.mark.parametrize("last,shown", [(40, [20, 40]), (160, [40, 80, 120, 160]), (2000, [500, 1000, 1500, 2000])])
def test_a_short_run_shows_few_of_its_samples_evenly(tmp_path, monkeypatch, last, shown):
    run = make_run(tmp_path / "run", d_loss=[(last, 1.0)])
    every = {2000: 500}.get(last, 20)
    for step in range(every, last, every):
        Image.new("RGB", (530, 530)).save(run / f"samples/{step:06d}.png")
    page = make_page(monkeypatch, run)
    assert re.findall(r'<img alt="(.*?)"', page) == [f"full, step {step:,}" for step in shown]


def test_each_gamma_stands_in_the_panel_of_its_size(tmp_path, monkeypatch):
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    for run, sizes, gamma in ((one, [16, 8], "0.25 -0.5"), (two, [16], "0.75")):  # in the log's order
        config = json.loads((run / "config.json").read_text())
        config["options"]["attn_at"] = sizes
        (run / "config.json").write_text(json.dumps(config))
        (run / "log.csv").write_text(LOG + f"500,1,1,0.5,0.5,{gamma},,90,\n")
    page = make_page(monkeypatch, one, two)
    assert re.findall(r"<h3>(\|Gamma.*?)</h3>", page) == ["|Gamma| in G at 8x8", "|Gamma| in G at 16x16"]
    assert tips(page, "|Gamma| in G at 8x8") == ["step 500\none: 0.500"]
    assert tips(page, "|Gamma| in G at 16x16") == ["step 500\none: 0.250\ntwo: 0.750"]


def test_many_rows_become_few_points_with_the_same_mean():
    points = [(step, float(step % 7)) for step in range(1, 1201)]
    means = report.averages([points])
    assert len(means) == report.POINTS
    assert sum(mean for _, mean, *_ in means) / len(means) == pytest.approx(sum(v for _, v in points) / 1200)


def test_a_mean_over_seeds_has_only_steps_that_all_measured():
    often, seldom = [(500, 4.0), (1000, 3.0), (1500, 2.0), (2000, 1.0)], [(1000, 5.0)]
    assert report.averages([often, seldom]) == [(1000, 4.0, 3.0, 5.0), (1500, 2, 2, 2), (2000, 1, 1, 1)]


def test_a_half_written_last_line_is_not_read(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", distance=[(500, 200)])
    for name, half in (("log.csv", "1500,0."), ("metrics.csv", "1000,2000,9")):
        with open(run / name, "a", encoding="utf-8") as file:
            file.write(half)
    page = make_page(monkeypatch, run)
    assert len(tips(page, "Loss of D")) == 2 and len(tips(page, "EfficientNet distance")) == 1


SHEETS, TABLES = ["samples/000500.png", "samples/001000.png"], ["log.csv", "metrics.csv", "fid.csv"]
BROKEN = {  # what may become of a file
    "empty": lambda content: b"",
    "cut": lambda content: content[:9],
    "binary": lambda content: bytes(range(256)) * 9,
    "utf-16": lambda content: content.decode("latin-1").encode("utf-16"),
}
BROKEN_TABLES = BROKEN | {
    "header alone": lambda content: content[: content.index(b"\n") + 1],
    "no steps": lambda content: content.replace(b"step", b"pets"),
    "a column missing": lambda content: re.sub(rb"d_loss|distance|fid(?=\n)", b"pets", content),
    "word": lambda content: re.sub(rb"\n500,[^,]*,", b"\n500,much,", content),
    "inf": lambda content: re.sub(rb"\n500,[^,]*,", b"\n500,inf,", content),
    "too large": lambda content: re.sub(rb"\n500,[^,]*,", b"\n500,1e300,", content),
    "two numbers": lambda content: re.sub(rb"\n500,[^,]*,", b"\n500,1 2,", content),
    "step 0": lambda content: content.replace(b"\n500,", b"\n0,"),
    "rows run together": lambda content: content.replace(b"\n1000,", b"1000,"),
    "a row cut": lambda content: re.sub(rb"\n500,.*", b"\n500,1", content),
}
EDITS = [{"size": "large"}, {"size": 1e999}, {"options": {}}, {"options": {"seed": [1]}}, {"photos_sha256": [7]},
         {"code": 5}, {"code": {"sha256": 5}}, {"changes": 3}]  # fmt: skip


def test_fid_csv_and_density_and_coverage_are_drawn_and_the_two_distances_have_names(tmp_path, monkeypatch):
    run = make_whole_run(tmp_path / "run")
    (run / "metrics.csv").write_text("step,count,distance,density,coverage,new\n500,2000,99,0.5,0.25,word\n")
    page = make_page(monkeypatch, run)
    assert tips(page, "FID") == ["step 500\nfull: 80.5", "step 1,000\nfull: 41.2"]
    assert tips(page, "Density") + tips(page, "Coverage") == ["step 500\nfull: 0.500", "step 500\nfull: 0.250"]
    results = results_of(page, "full")
    assert (results["pictures, metrics.csv"], results["pictures, fid.csv"]) == ("2,000", "5,000")
    assert re.findall(r"(\w+)\s+distance", page, re.IGNORECASE) and not re.findall(
        r"(?<!EfficientNet)(?<!Fréchet)(?<!Inception)\s+distance\b|>Distance", page
    )


@pytest.mark.parametrize("form", BROKEN_TABLES)
@pytest.mark.parametrize("name", TABLES)
def test_of_a_broken_table_what_is_whole_is_drawn_and_one_line_names_it(tmp_path, monkeypatch, capsys, name, form):
    good, bad = make_whole_run(tmp_path / "good"), make_whole_run(tmp_path / "bad", "--no-gen-attn")
    (bad / name).write_bytes(BROKEN_TABLES[form]((bad / name).read_bytes()))
    page = make_page(monkeypatch, good, bad)
    assert re.fullmatch(f"left out: {bad / name}: .*\nreport.html\n", capsys.readouterr().out)
    titles = {"log.csv": "Loss of D", "metrics.csv": "EfficientNet distance", "fid.csv": "FID"}
    for other in TABLES:
        told = tips(page, titles[other])
        assert len(told) == 2 and all("full: " in tip for tip in told)
        assert other == name or all("no-gen-attn: " in tip for tip in told)
    shared = [tip for tip in tips(page, titles[name]) if "no-gen-attn" in tip]
    assert len(shared) == {"step 0": 1, "word": 1, "inf": 1, "too large": 1, "two numbers": 1, "a row cut": 1}.get(
        form, len(shared)
    )
    assert shared or "never falls" not in page  # nothing is said of a curve that isn't there
    assert page.count("<img") == 4


@pytest.mark.parametrize("form", [*BROKEN, "of another size"])
def test_a_broken_sheet_of_samples_is_left_out_alone(tmp_path, monkeypatch, capsys, form):
    run = make_whole_run(tmp_path / "run")
    if form == "of another size":
        Image.new("RGB", (40, 40)).save(run / SHEETS[0])
    else:
        (run / SHEETS[0]).write_bytes(BROKEN[form]((run / SHEETS[0]).read_bytes()))
    page = make_page(monkeypatch, run)
    assert re.fullmatch(f"left out: {run / SHEETS[0]}: .*\nreport.html\n", capsys.readouterr().out)
    assert re.findall(r'<img alt="(.*?)"', page) == ["full, step 1,000"] and len(tips(page, "FID")) == 2


@pytest.mark.parametrize("form", [*BROKEN, "missing", *EDITS], ids=str)
def test_a_run_of_a_broken_config_is_left_out_in_one_line(tmp_path, monkeypatch, capsys, form):
    good, bad = make_whole_run(tmp_path / "good"), make_whole_run(tmp_path / "bad", "--no-gen-attn")
    file = bad / "config.json"
    if form == "missing":
        file.unlink()
    elif isinstance(form, dict):
        file.write_text(json.dumps(json.loads(file.read_text()) | form))
    else:
        file.write_bytes(BROKEN[form](file.read_bytes()))
    page = make_page(monkeypatch, good, bad)
    assert re.fullmatch(f"left out: {bad}.*config.json: .*\nreport.html\n", capsys.readouterr().out)
    assert rows_of(page, "full") and "no-gen-attn," not in page and page.count("<img") == 2
    with pytest.raises(UserError):
        make_page(monkeypatch, bad)


def test_files_beside_runs_are_passed_over_and_a_folder_of_runs_is_told(tmp_path, monkeypatch, capsys):
    run, _ = make_run(tmp_path / "run"), make_run(tmp_path / "short/full-1")
    (tmp_path / "old.html").touch()
    page = make_page(monkeypatch, "old.html", run, "short")
    left_out, _ = capsys.readouterr().out.splitlines()
    assert left_out.startswith("left out: short: ") and left_out.endswith(" try short/*")
    assert page == make_page(monkeypatch, run)


@pytest.mark.parametrize("gone", [["metrics.csv", "fid.csv", *SHEETS], ["log.csv"], ["log.csv", "metrics.csv"]])
def test_a_run_is_drawn_from_the_files_that_it_has(tmp_path, monkeypatch, capsys, gone):
    run = make_whole_run(tmp_path / "run")
    for name in gone:
        (run / name).unlink()
    page = make_page(monkeypatch, run)
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert len(lines) == ("log.csv" in gone) and all(f"{run / 'log.csv'}: No such file" in line for line in lines)
    titles = {"Loss of D": "log.csv", "EfficientNet distance": "metrics.csv", "FID": "fid.csv"}
    assert {title for title in titles if f"<h3>{title}</h3>" in page} == {t for t in titles if titles[t] not in gone}


def test_a_spreadsheet_s_line_ends_and_byte_order_mark_change_nothing(tmp_path, monkeypatch, capsys):
    run = make_whole_run(tmp_path / "run")
    page = make_page(monkeypatch, run)
    for name in ("config.json", *TABLES):
        (run / name).write_bytes(b"\xef\xbb\xbf" + (run / name).read_bytes().replace(b"\n", b"\r\n"))
    assert make_page(monkeypatch, run) == page and capsys.readouterr().out == 2 * "report.html\n"


@pytest.mark.parametrize("loss", [1e14, -3e29, 1e-300])
def test_a_run_that_exploded_is_drawn(tmp_path, monkeypatch, loss):
    run = make_run(tmp_path / "run", d_loss=[(500, 1.0), (1000, loss), (1500, loss)])
    page = make_page(monkeypatch, run, make_run(tmp_path / "other", "--no-gen-attn"))
    assert len(tips(page, "Loss of D")) == 3
    svg = report.draw([("D", "s0", [(1, loss, loss, loss)])], 1)
    assert 1 <= svg.count('text-anchor="end"') <= 6


def test_the_page_is_one_file_in_which_names_are_escaped_and_pictures_have_their_label(tmp_path, monkeypatch):
    page = make_page(monkeypatch, make_run(tmp_path / os.fsdecode(b"a<b&c\xff")))
    assert "a&lt;b&amp;c\\xff" in page and "<b&c" not in page
    assert re.findall(r"<(?:script|link|iframe)|@import|url\(|https?:", page) == []
    assert {source[:5] for source in re.findall(r'(?:src|href)="(.*?)"', page)} == {"data:"}
    assert re.findall(r'<img alt="(.*?)"', page) == ["full, step 1,000"]
