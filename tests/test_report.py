"""The report: curves that say what the log says, the stopping rule, and a page that needs nothing else."""

import json
import math
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import data
import fid
import report
import train
from model import Generator

AGAINST = "5,000 samples, 2 photos (012345)"
HEAD = "step,d_loss,g_loss,d_real,d_fake,gamma_g,gamma_d,images_per_s,fid\n"
SVG = "{http://www.w3.org/2000/svg}"


def make_run(folder, rows, *options, seed=0, photos="0123456789"):
    """A run folder with a log, one sheet of samples at the last step, and no snapshot."""
    options = train.parse_options(["--out", str(folder), "--steps", "40", "--seed", str(seed), *options])
    config = {key: str(value) if key in ("data", "out") else value for key, value in vars(options).items()}
    (folder / "samples").mkdir(parents=True)
    config = {"options": config, "size": 64, "photos": 2, "photos_sha256": photos}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.csv").write_text(HEAD + "".join(f"{row}\n" for row in rows))
    colour = ["red", "green", "blue"][seed]
    Image.new("RGB", (530, 530), colour).save(folder / f"samples/{int(rows[-1].split(',')[0]):06d}.png")
    return folder


def row(step, d_loss, distance=""):
    return f"{step},{d_loss},1.5,0.6,0.4,,0.1 -0.3,9.0,{distance}"


def make_page(monkeypatch, *folders):
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, folders)])
    report.main()
    with open("report.html") as file:
        return file.read()


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines(svg):
    """{name: points} of the curves in an SVG; the legend's lines have no name."""
    found = (line for line in ElementTree.fromstring(svg).iter(f"{SVG}polyline") if len(line))
    return {line[0].text: [tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in found}


def test_curves_start_and_end_where_the_log_does():
    svg = report.draw("loss", [("D", [(10, 2.0, 2.0, 2.0), (20, 1.0, 1.0, 1.0)])], zero=True)
    (one, two) = lines(svg)["D"]
    assert [one[0], two[0]] == [report.LEFT + report.WIDTH / 2, report.LEFT + report.WIDTH]
    assert two[1] - one[1] == pytest.approx(report.HEIGHT / 2)  # 2 is the highest value, 0 the lowest


def test_every_point_tells_its_value_and_every_curve_has_a_name_and_a_look_of_its_own():
    points = [(10, 2.0, 1.5, 2.5), (20, 1.0, 1.0, 1.0)]
    svg = ElementTree.fromstring(report.draw("loss", [("a<b", points), ("c", points)], [(10, "here")]))
    assert [c[0].text for c in svg.iter(f"{SVG}circle")][:2] == ["a<b, step 10: 2 (1.5 to 2.5)", "a<b, step 20: 1"]
    curves = [line for line in svg.iter(f"{SVG}polyline") if len(line)]
    assert len({line.get("class") for line in curves}) == len({line.get("stroke-dasharray") for line in curves}) == 2
    assert {"loss", "a<b", "c", "here", "steps"} <= {text.text for text in svg.iter(f"{SVG}text")}
    assert report.draw("nothing", [("a", [])]) == ""


def test_each_attention_layer_is_drawn_and_a_network_without_none(tmp_path):
    folder = make_run(tmp_path / "run", [row(10, 2.0), row(20, 1.0)])
    panels = report.panels_of([report.read_run(folder)])
    assert lines(panels[2]).keys() == {"D, layer 1", "D, layer 2"} and len(panels) == 3
    assert lines(panels[2])["D, layer 2"][0][1] > lines(panels[2])["D, layer 1"][0][1]  # -0.3 is lower on the page


def test_means_over_seeds_are_means_and_reach_from_the_lowest_to_the_highest(tmp_path):
    one = make_run(tmp_path / "1", [row(10, 2.0), row(20, 1.0), row(30, 7.0)])
    two = make_run(tmp_path / "2", [row(10, 4.0), row(20, 1.0)], seed=1)
    runs = [report.read_run(one), report.read_run(two)]
    assert runs[0].group == runs[1].group
    assert report.over_seeds(runs, "d_loss") == [(10, 3.0, 2.0, 4.0), (20, 1.0, 1.0, 1.0), (30, 7.0, 7.0, 7.0)]
    assert report.over_seeds(runs[:1], "d_loss") == [(10, 2.0, 2.0, 2.0), (20, 1.0, 1.0, 1.0), (30, 7.0, 7.0, 7.0)]
    other = report.read_run(make_run(tmp_path / "3", [row(10, 4.0)], "--width=8", seed=2))
    assert other.group != runs[0].group


def test_averages_keep_the_mean_and_the_last_step_and_are_few():
    points = [(step, float(step % 7)) for step in range(1, 1201)]
    means = report.averages([points])
    assert len(means) == report.POINTS and means[-1][0] == 1200
    assert sum(point[1] for point in means) / len(means) == pytest.approx(sum(v for _, v in points) / 1200)
    assert all(len(report.averages([points[:count]])) <= report.POINTS for count in range(1, 1200))
    assert report.averages([points[:50]]) == [(step, value, value, value) for step, value in points[:50]]


NO_LOGS = ["", HEAD, "step,d_loss\n10,1.0\n", HEAD + "10,1.0\n"]
NO_LOGS += [HEAD + row(*wrong) + "\n" for wrong in [(10, "abc"), (10, "nan"), (10, ""), (0, 1.0), (10, 1.0, "inf")]]


@pytest.mark.parametrize("log", NO_LOGS)
def test_a_log_that_cannot_be_read_is_left_out_in_one_line(tmp_path, monkeypatch, capsys, log):
    make_run(tmp_path / "good", [row(10, 2.0)])
    (make_run(tmp_path / "bad", [row(10, 2.0)]) / "log.csv").write_text(log)
    make_page(monkeypatch, tmp_path / "good", tmp_path / "bad")
    left_out, _ = capsys.readouterr().out.splitlines()
    assert left_out.startswith("left out: ") and left_out.count(f"{tmp_path / 'bad'}") == 1


def test_a_config_without_its_options_is_left_out_in_one_line(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "good", [row(10, 2.0)])
    bad = make_run(tmp_path / "bad", [row(10, 2.0)])
    (bad / "config.json").write_text('{"options": {}, "size": 64, "photos": 2, "photos_sha256": ""}')
    make_page(monkeypatch, tmp_path / "good", bad)
    assert capsys.readouterr().out.startswith(f"left out: {bad}: no run to read there")


def test_a_mean_over_seeds_has_only_steps_that_all_measured(tmp_path):
    often = [(500, 4.0), (1000, 3.0), (1500, 2.0), (2000, 1.0), (2500, 1.0)]
    assert report.averages([often, [(1000, 5.0), (2000, 3.0)]]) == [
        (1000, 4.0, 3.0, 5.0),
        (2000, 2.0, 1.0, 3.0),
        (2500, 1.0, 1.0, 1.0),  # the other hasn't come so far
    ]


def test_fid_and_untrained_distances_of_two_seeds_are_never_averaged(tmp_path):
    one = make_run(tmp_path / "one", [row(10, 2.0, "5.0"), row(20, 2.0, "4.0")], "--weights=random")
    two = make_run(tmp_path / "two", [row(10, 2.0, "50.0"), row(20, 2.0, "40.0")], seed=1)
    runs = [report.read_run(one), report.read_run(two)]
    assert runs[0].group == runs[1].group
    panels = report.panels_of(runs)[-2:]
    for panel, title, value in zip(panels, ("FID", fid.UNTRAINED), ("50", "5"), strict=True):
        assert f"{title}, {AGAINST}</text>" in panel and f"step 10: {value}<" in panel and " to " not in panel


def test_distances_to_different_photos_share_no_panel(tmp_path):
    runs = [
        report.read_run(make_run(tmp_path / photos, [row(10, 2.0, distance)], photos=photos))
        for photos, distance in (("0123456789", "5.0"), ("abcdef0123", "7.0"))
    ]
    panels = [report.distance_panel(name, report.group(runs)) for name in report.distances_of(runs)]
    assert len(panels) == 2
    for panel, value, other in zip(panels, ("5", "7"), ("7", "5"), strict=True):
        assert f"step 10: {value}<" in panel and f"step 10: {other}<" not in panel


def test_the_stopping_rule_on_curves_of_which_one_knows_the_answer():
    falling = [(step, 100.0 - step) for step in range(1, 101)]
    assert report.stops_improving(falling) == math.inf  # still falling at the end
    then_flat = [(step, max(100.0 - step, 60.0)) for step in range(1, 101)]
    assert 35 <= report.stops_improving(then_flat) <= 42
    rising_again = [(step, abs(step - 50.0)) for step in range(1, 101)]
    assert 45 <= report.stops_improving(rising_again) <= 52
    start_of_a_gan = [(1, 0.0), *((step + 1, value) for step, value in then_flat)]  # D wins at first: no improvement
    assert 35 <= report.stops_improving(start_of_a_gan) <= 43
    assert report.stops_improving([(step, -value) for step, value in falling]) is None  # never falls
    random = torch.Generator().manual_seed(0)
    for _ in range(10):
        noise = torch.randn(1000, generator=random).tolist()
        assert report.stops_improving(list(enumerate(noise, 1))) is None
    late = [(step, max(100.0 - step, 10.0)) for step in range(1, 101)]
    assert report.stops_improving(late) == math.inf and report.stops_improving(late, patience=0.05) > 80
    assert report.stops_improving([]) is None


def test_the_page_marks_a_stop_and_says_where_there_is_none_yet(tmp_path):
    rows = [row(step, 100 - step, max(100 - step, 60)) for step in range(2, 101, 2)]  # the distance stops at 40
    text = report.when_to_stop(report.read_run(make_run(tmp_path / "run", rows, "--fid-every", "2")))
    assert "discriminator loss (nats) stops falling: not yet" in text
    (marked,) = re.findall(r'class="stop".*?<text[^>]*>([^<]*)<', text)
    assert 35 <= int(marked) <= 42 and f"stops falling: {marked}" in text


def test_round_ticks_within_the_range():
    assert report.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert report.ticks(-0.37, 0.31) == pytest.approx([-0.2, 0, 0.2])
    assert report.ticks(0, 15000) == [0, 5000, 10000, 15000]


def test_even_attention_is_as_far_as_chance_and_attention_to_itself_is_not(monkeypatch):
    generator = Generator(32, 4, 8, attention_at=(16,)).eval()

    def maps(kind):
        return lambda generator, z: (torch.zeros(len(z), 3, 32, 32), {"16": kind.expand(len(z), -1, -1)})

    monkeypatch.setattr(report, "attention_maps", maps(torch.full((256, 256), 1 / 256)))
    share, even = report.far_share(generator)["16"]
    assert share == pytest.approx(even, rel=1e-5) and 0.3 < even < 0.9
    monkeypatch.setattr(report, "attention_maps", maps(torch.eye(256)))
    assert report.far_share(generator)["16"][0] == 0
    monkeypatch.setattr(report, "attention_maps", maps(torch.eye(256).flip(1)))  # to the point opposite
    assert report.far_share(generator)["16"][0] > 0.5


def test_the_page_is_whole_escaped_and_leaves_out_what_is_no_run(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "a<b&c", [row(10, 2.0), row(20, 1.0)])
    (tmp_path / "empty").mkdir()
    page = make_page(monkeypatch, "empty", "a<b&c")
    assert "left out: empty: " in capsys.readouterr().out
    assert "a&lt;b&amp;c" in page and "<b&c" not in page and "<script" not in page
    sources = re.findall(r'(?:src|href)="([^"]{5})', page)
    assert sources and set(sources) == {"data:"}  # nothing is fetched from elsewhere
    ElementTree.parse(tmp_path / "a<b&c/curves.svg")


def test_untrained_distances_are_called_so_in_the_title_and_on_every_axis(tmp_path, monkeypatch):
    rows = [row(10, 2.0, "5.0"), row(20, 1.0, "4.0")]
    page = make_page(monkeypatch, make_run(tmp_path / "one", rows, "--weights=random"))
    assert fid.UNTRAINED in re.search("<title>(.*)</title>", page)[1]
    titles = re.findall('font-weight="bold">([^<]*)<', page)
    untrained = f"{fid.UNTRAINED}, {AGAINST}"
    assert titles.count(untrained) == 3 and f"FID, {AGAINST}" not in titles  # compared, to stop by, the variant's
    page = make_page(monkeypatch, make_run(tmp_path / "two", rows))
    assert fid.UNTRAINED not in page and f">FID, {AGAINST}<" in page
    page = make_page(monkeypatch, tmp_path / "one", tmp_path / "two", make_run(tmp_path / "three", [row(10, 2.0)]))
    panels = re.findall('font-weight="bold">([^<]*)<', page.split("Curves of all")[1].split("<h2>")[0])
    assert panels[:2] == [f"FID, {AGAINST}", untrained] and "not measured" in page


def test_variants_stand_side_by_side(tmp_path, monkeypatch):
    page = make_page(
        monkeypatch,
        make_run(tmp_path / "x", [row(500, 2.0)], "--no-gen-attn"),
        make_run(tmp_path / "y", [row(500, 1.0)]),
        make_run(tmp_path / "z", [row(500, 1.0)], seed=1),
    )
    assert "<th>steps</th><th>full (2 seeds)</th><th>no-gen-attn</th>" in page
    assert re.search(r"<td>500</td><td><img [^>]*></td><td><img [^>]*></td>", page)


def test_no_run_at_all_is_a_mistake_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report.py", "empty"])
    with pytest.raises(SystemExit) as stop:
        data.run(report.main)
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["report.py", str(make_run(tmp_path / "x", [row(10, 2.0)])), "--out", "nix/a.html"]
    )
    monkeypatch.setattr(report, "read_run", lambda folder: pytest.fail("it began"))
    with pytest.raises(data.UserError, match="nix: no such folder"):
        report.main()


def test_breeds_are_those_of_the_nearest_crops(tmp_path, monkeypatch):
    """A generator that always draws the same picture covers one breed; crops have those of their neighbours."""
    pictures = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "crops").mkdir()
    for index, name in enumerate(["a_0", "a_1", "b_0", "b_1", "c_0", "c_1"]):
        pixels = pictures[index // 2 * 2] // 8 * 8 + index % 2  # two of a breed are nearly the same
        Image.fromarray(pixels).save(tmp_path / f"crops/{name}.png")
    folder = make_run(tmp_path / "run", [row(10, 2.0)])
    same = torch.from_numpy(pictures[2]).permute(2, 0, 1)
    monkeypatch.setattr(report, "find_snapshot", lambda folder: folder)
    monkeypatch.setattr(report, "load_generator", lambda path, device: (SimpleNamespace(z_dim=4), 10))
    monkeypatch.setattr(train, "generate", lambda generator, z: same.expand(len(z), 3, 32, 32))
    section = report.breeds_section([report.read_run(folder)], tmp_path / "crops", "random", 5)
    assert re.findall(r"<td>(\d of \d)</td><td>(.*?)</td>", section) == [("3 of 3", "3.0"), ("1 of 3", "1.0")]
    assert "an untrained Inception" in section


@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser: apt-get install chromium")
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_the_page_without_a_bar_to_scroll_sideways(tmp_path, monkeypatch, width):
    rows = [row(step, 2.0 - step / 50, "5.0") for step in range(10, 50, 10)]
    make_page(monkeypatch, make_run(tmp_path / "one", rows), make_run(tmp_path / "two", rows, "--no-gen-attn"))
    page = tmp_path / "probe.html"
    probe = "<script>document.title=document.documentElement.scrollWidth</script>"
    inner = (tmp_path / "report.html").read_text().replace("</html>", probe)
    page.write_text(inner)
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},2000"]
    subprocess.run([*browser, "--screenshot=page.png", page.as_uri()], cwd=tmp_path, capture_output=True, timeout=120)
    with Image.open(tmp_path / "page.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20  # not an empty page
    dump = subprocess.run([*browser, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120).stdout
    assert int(re.search("<title>([0-9]+)</title>", dump)[1]) <= max(width, 500)  # headless windows are 500 or wider
