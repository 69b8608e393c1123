"""The report: curves that say what the log says, on a page that needs nothing else."""

import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

import data
import report

HEAD = "step,d_loss,g_loss,d_real,d_fake,gamma_g,gamma_d,images_per_s,fid\n"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with a run that has attention in D twice and in G not at all, and one that has no log."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a<b&c"
    (folder / "samples").mkdir(parents=True)
    Image.new("RGB", (4, 4), "red").save(folder / "samples/000020.png")
    (folder / "config.json").write_text('{"options": "<script>"}')
    rows = ["10,2.0,0.5,0.6,0.4,,0.1 -0.3,9.0,", "20,1.0,1.5,0.7,0.3,,0.2 -0.4,9.0,"]
    (folder / "log.csv").write_text(HEAD + "\n".join(rows) + "\n")
    (tmp_path / "empty").mkdir()
    return tmp_path


def polylines(svg):
    """{name: [points of each line]}."""
    lines = {}
    for line in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        lines.setdefault(line[0].text, []).append(points)
    return lines


def test_curves_start_and_end_where_the_log_does(runs):
    lines = polylines(report.draw_curves(report.read_log(runs / "a<b&c")))
    (d,), (g,) = lines["discriminator"][:1], lines["generator"]
    left, width, height = report.LEFT, report.WIDTH, report.HEIGHT
    assert [x for x, _ in d] == [left + width / 2, left + width]  # steps 10 and 20 of 20
    bottom, top = d[0][1] + height, d[0][1]  # 2.0 is the highest value, 0 the lowest
    assert d[1][1] == pytest.approx((top + bottom) / 2)
    assert [y for _, y in g] == pytest.approx([bottom - 0.25 * height, bottom - 0.75 * height], abs=0.06)


def test_each_attention_layer_has_its_line_and_a_network_without_none(runs):
    lines = polylines(report.draw_curves(report.read_log(runs / "a<b&c")))
    assert len(lines["discriminator"]) == 1 + 2 and len(lines["generator"]) == 1


def test_smoothing_keeps_a_straight_line_straight_and_all_its_points():
    assert report.smooth([1.0, 2.0, 3.0, 4.0, 5.0], 0) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert report.smooth([0.0, 3.0, 0.0, 3.0, 0.0], 1) == [1.5, 1.0, 2.0, 1.0, 1.5]


def test_the_page_is_whole_escaped_and_leaves_out_what_is_no_run(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report.py", "empty", "a<b&c"])
    report.main()
    assert capsys.readouterr().out.startswith("left out: empty: no run to read there")
    page = (runs / "report.html").read_text()
    assert "a&lt;b&amp;c" in page and "<script" not in page and "&lt;script&gt;" in page
    sources = re.findall(r'(?:src|href)="([^"]{5})', page)
    assert sources == ["data:"]  # the sheet; nothing is fetched from elsewhere
    assert (runs / "a<b&c/curves.svg").read_text() in page


def test_no_run_at_all_is_a_mistake_in_one_line(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report.py", "empty"])
    with pytest.raises(SystemExit) as stop:
        data.run(report.main)
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    assert not (runs / "report.html").exists()
