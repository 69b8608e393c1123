"""FID: the network against golden numbers, statistics and distances against closed forms, and the command.

golden/ holds what pytorch-fid computed under made-up weights; its README tells how, and which tolerance to expect.
"""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import noise, write
from golden import recipe
from PIL import Image
from torch import nn
from torch.nn import functional as F

import common
import distances
import fid
import files
import inception as network
import sample
import snapshots

GOLDEN = Path(__file__).parent / "golden"
FEATURES = np.load(GOLDEN / "golden_features.npz")
FRECHET = np.load(GOLDEN / "golden_frechet.npz")
NAMES = recipe.read_names(GOLDEN / "inception_names.txt")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file with the made-up weights."""
    path = tmp_path_factory.mktemp("weights") / "synthetic.pth"
    torch.save(recipe.synthetic_state_dict(0, NAMES), path)
    return path


@pytest.fixture(scope="session")
def inception(weights):
    return network.load_inception(weights)


class Colours(nn.Module):
    """In place of Inception where the network doesn't matter: mixtures of a picture's mean and spread of colours."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mix", torch.randn(6, 2048, generator=torch.Generator().manual_seed(0)))

    def forward(self, images):
        assert images[0, 0].numel() <= 299**2  # large ones never come at their full size
        images = network.resize(images)
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1) @ self.mix


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs fid.py in this process with a small network in place of Inception -> (status, stdout, stderr)."""
    monkeypatch.setattr(fid, "load_inception", lambda weights=None, device="cpu": Colours())

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fid.py", *map(str, arguments), "--device", "cpu"])
        try:
            common.run_script(fid.main)
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def means_only(monkeypatch):
    """A distance that takes no two seconds, for tests of when it is measured, and of what."""
    monkeypatch.setattr(fid, "frechet_distance", lambda mu1, _1, mu2, _2: float(np.sum((mu1 - mu2) ** 2)))


def script(folder, *arguments, start=()):
    line = [sys.executable, *start, fid.__file__, *map(str, arguments), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def statistics(folder, batch=48):
    paths = fid.picture_files(folder, 2)
    return distances.collect(fid.features_of(fid.read_batches(paths, batch), Colours(), folder, len(paths)), 2048)


def rows_of(run):
    return list(csv.DictReader((run / "fid.csv").read_text(encoding="utf-8").splitlines()))


def value_of(out, name="FID"):
    line = out.strip().splitlines()[-1 if name == "FID" else -2]
    assert line.startswith(f"{name}: ")
    return float(line.split()[1])


# The network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", FEATURES["groups"].tolist())
def test_features_logits_and_maps_are_those_of_pytorch_fid(inception, group):
    seed, count, size = (FEATURES[f"image_{name}_{group}"].tolist() for name in ("seed", "count", "height_width"))
    images = torch.from_numpy(recipe.synthetic_images(seed, count, tuple(size))).permute(0, 3, 1, 2) / 255

    def relative(found, golden):
        golden = torch.from_numpy(FEATURES[f"{golden}_{group}"])
        return ((found - golden).norm() / golden.norm()).item()

    maps, hooks = {}, []
    for name, layer in {"block64": "maxpool1", "block192": "maxpool2", "block768": "Mixed_6e"}.items():
        hook = getattr(inception, layer).register_forward_hook
        hooks.append(hook(lambda module, _, x, name=name: maps.setdefault(name, []).append(x.mean((2, 3)))))
    features = inception(images)
    for hook in hooks:
        hook.remove()
    assert features.dtype == torch.float32 and not features.requires_grad
    assert relative(features, "pool3") < 3e-4
    assert relative(inception.fc(features).detach(), "logits") < 3e-4
    for name, tolerance in (("block64", 1e-5), ("block192", 1e-5), ("block768", 1e-4)):
        assert relative(torch.cat(maps[name]), f"{name}_mean") < tolerance


def test_a_picture_s_features_do_not_depend_on_the_others_in_the_batch(inception):
    images = torch.rand(18, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    some = torch.cat([inception(images[i : i + 1]) for i in (0, 7, 17)])
    assert (inception(images)[[0, 7, 17]] - some).abs().max() < 1e-4


def test_features_are_float32_s_inside_autocast(inception):
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = inception(images)
    assert torch.equal(inside, inception(images))


def test_weights_have_the_names_shapes_and_order_of_the_file():
    state = network.Inception().state_dict()
    assert [(network.name_in_file(name), tuple(value.shape)) for name, value in state.items()] == NAMES


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda state: state.pop("Mixed_6c.branch_pool.bn.bias"), "Mixed_6c.branch_pool.bn.bias"),
        (lambda state: state.pop("Mixed_7b.branch3x3dbl_3b.conv.weight"), "Mixed_7b.branch3x3dbl_3b.conv.weight"),
        (lambda state: state.update({"AuxLogits.fc.bias": torch.zeros(3)}), "AuxLogits.fc.bias"),
        (lambda state: state.update({"fc.weight": torch.zeros(1000, 2048)}), "fc.weight.*1000, 2048"),
    ],
)
def test_weights_of_another_network_are_refused_naming_the_entry(tmp_path, spoil, name):
    state = {name: torch.zeros(()).expand(shape) for name, shape in NAMES}
    spoil(state)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(common.UserError, match=f"(?s)other.pth: not the weights.*{name}"):
        network.load_inception(tmp_path / "other.pth")


def test_weights_are_fetched_once_and_checked_and_offline_one_hears_what_to_do(monkeypatch, tmp_path, weights, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    offline, path = f"http://127.0.0.1:1/{weights.name}", tmp_path / "hub/checkpoints" / weights.name
    monkeypatch.setattr(network, "URL", offline)
    with pytest.raises(common.UserError) as caught:
        network.load_inception()
    assert all(part in str(caught.value) for part in (offline, str(path), "--weights"))
    monkeypatch.setattr(network, "URL", weights.as_uri())
    with pytest.raises(common.UserError, match="hash"):
        network.load_inception()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # nothing half or wrong stays
    monkeypatch.setattr(network, "SHA256", hashlib.sha256(weights.read_bytes()).hexdigest()[:8])
    network.load_inception()
    monkeypatch.setattr(network, "URL", offline)
    network.load_inception()
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("fetched", [True, False])
def test_one_process_fetches_the_weights_and_the_others_wait_for_them(fetched, monkeypatch, tmp_path, weights):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub/checkpoints" / weights.name
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(network, "URL", f"http://127.0.0.1:1/{weights.name}")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(files, "any_rank", lambda failure: not (fetched and shutil.copy(weights, path)))
    if fetched:
        network.load_inception()
    else:
        with pytest.raises(common.UserError, match=r"fetched \(by another"):
            network.load_inception()


# Statistics ---------------------------------------------------------------------------------------------------


def normals(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_statistics_are_numpys_whatever_the_batches():
    features = normals(101, 7) * torch.arange(1, 8) + 5
    for sizes in ((101,), (1,) * 101, (3, 90, 8)):
        total = distances.collect(features.split(sizes), 7)
        assert total.count == 101
        np.testing.assert_allclose(total.mu, features.mean(0), rtol=1e-12)
        np.testing.assert_allclose(total.sigma, np.cov(features.numpy(), rowvar=False), rtol=1e-9, atol=1e-11)


def test_plain_sums_keep_the_digits_of_a_million_features():
    features = 7 + 0.01 * normals(1000, 4)  # a mean as large as features get, and little variance
    total = distances.collect([features] * 1000, 4)
    exact = np.cov(features.numpy(), rowvar=False) * (999 / 1000) * (10**6 / (10**6 - 1))
    np.testing.assert_allclose(total.sigma, exact, rtol=0, atol=1e-10)  # 2,048 of these move FID by 2e-7


# The Frechet distance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FRECHET["cases"].tolist())
def test_distances_of_golden_pairs(case):
    if f"{case}_mu1" in FRECHET:
        pair = [FRECHET[f"{case}_{name}"] for name in ("mu1", "sigma1", "mu2", "sigma2")]
    else:
        sets = [FRECHET[f"{case}_features{side}"].astype(np.float64) for side in (1, 2)]
        pair = [part for x in sets for part in (x.mean(0), np.cov(x, rowvar=False))]
    mu1, sigma1, mu2, sigma2 = np.atleast_1d(*pair)
    exact, scale = FRECHET[f"{case}_exact"].item(), FRECHET[f"{case}_traces"].item()
    found = distances.frechet_distance(mu1, np.atleast_2d(sigma1), mu2, np.atleast_2d(sigma2))
    assert found == pytest.approx(exact, rel=1e-10, abs=1e-10 * scale)  # singular covariances, too
    if case.startswith("identical"):
        assert found == 0


def random_covariance(seed, d=30):
    x = np.random.default_rng(seed).standard_normal((d, d)) * np.linspace(0.1, 3, d)
    return x.T @ x / d


def test_closed_forms():
    a, zero = random_covariance(0), np.zeros(30)
    shift = np.random.default_rng(2).standard_normal(30)
    assert distances.frechet_distance(zero, a, shift, a) == pytest.approx(shift @ shift, rel=1e-12)
    assert distances.frechet_distance([3.0], [[4.0]], [-1.0], [[25.0]]) == pytest.approx(4**2 + (2 - 5) ** 2)


def test_collapsed_generators_have_a_distance():
    zero, none, a = np.zeros(30), np.zeros((30, 30)), random_covariance(0)
    assert distances.frechet_distance(zero, none, zero, none) == 0
    assert distances.frechet_distance(zero, none, zero + 1, none) == 30
    assert distances.frechet_distance(zero, none, zero, a) == pytest.approx(np.trace(a), rel=1e-14)
    left, right = np.diag([2.0] * 15 + [0.0] * 15), np.diag([0.0] * 15 + [3.0] * 15)  # nothing in common
    assert distances.frechet_distance(zero, left, zero, right) == 75
    for count in range(2, 12):  # equal pictures, whose sigma is rounding, here and there below 0
        rounding = distances.collect([normals(1, 30, seed=count).expand(count, 30)], 30)
        assert distances.frechet_distance(zero, a, zero, rounding.sigma) == pytest.approx(np.trace(a), rel=1e-6)


def test_the_distance_is_never_negative_nor_of_what_is_not_finite():
    for seed in range(20):  # nearly the same, so that rounding decides about the sign
        a = random_covariance(seed)
        nudged = a.copy()
        nudged[0, 0] *= 1 + 1e-15
        assert 0 <= distances.frechet_distance(np.zeros(30), a, np.zeros(30), nudged) < 1e-12
    with pytest.raises(common.UserError, match="finite"):
        distances.frechet_distance(np.zeros(3), np.eye(3), np.zeros(3), np.full((3, 3), np.nan))


@pytest.mark.parametrize("broken", [np.diag([-5.0, 1, 5]), np.array([[0, 5.0, 0], [5, 0, 0], [0, 0, 1]]), -np.eye(3)])
def test_what_is_no_covariance_has_no_distance(broken):
    with pytest.raises(common.UserError, match="negative variances"):
        distances.frechet_distance(np.zeros(3), np.eye(3), np.zeros(3), broken)


def test_rounding_to_float32_hardly_moves_a_distance():
    random = np.random.default_rng(0)
    mix = random.standard_normal((60, 200)) * np.linspace(1, 0.03, 60)[:, None] ** 2
    few, many = (random.standard_normal((count, 60)) @ mix for count in (20, 1000))  # in 200 dimensions
    for x, y in ((few, few[::2] + 3), (few, many), (many, many**2)):
        exact = [part for side in (x, y) for part in (side.mean(0), np.cov(side, rowvar=False))]
        rounded = [part.astype(np.float32).astype(np.float64) for part in exact]
        assert np.linalg.eigvalsh(rounded[1])[0] < 0
        assert distances.frechet_distance(*rounded) == pytest.approx(distances.frechet_distance(*exact), rel=1e-6)


# KID ----------------------------------------------------------------------------------------------------------


def test_kid_is_the_mean_over_all_pairs_of_different_pictures():
    x, y = normals(1003, 3), normals(5, 3, seed=1)  # rows of the kernel come in blocks of 1,000
    k = lambda a, b: (a @ b.T / 3 + 1) ** 3  # noqa: E731
    within = [k(s, s)[~torch.eye(len(s), dtype=torch.bool)].mean() for s in (x, y)]
    assert distances.squared_mmd(x, y)[0] == pytest.approx((sum(within) - 2 * k(x, y).mean()).item())
    assert distances.squared_mmd(x, y) == pytest.approx(distances.squared_mmd(y, x))


@pytest.mark.parametrize("apart", [0, 0.1, 0.3, 1])
def test_kid_is_unbiased_and_the_error_that_it_tells_is_the_true_one(apart):
    d, times = 40, 500
    random = torch.Generator().manual_seed(0)
    draw = lambda count: torch.randn(count, d, dtype=torch.float64, generator=random)  # noqa: E731
    found = np.array([distances.squared_mmd(draw(30), draw(50) + apart) for _ in range(times)])
    q = apart**2  # x and y are normal, E (x.y / d + 1)^3 has a closed form
    truth = 3 * q + 3 * q**2 + q**3 + 6 * q**2 / d + 3 * q * (d + 2) / d**2
    true_error = found[:, 0].std()
    assert abs(found[:, 0].mean() - truth) < 4 * true_error / times**0.5
    # 500 sets tell a spread to 3 %.  Where the sets are alike the error told is a tenth too large, because what is
    # estimated of a variance isn't allowed below 0; a plain jackknife's would be 40 % too large.
    assert np.sqrt((found[:, 1] ** 2).mean()) == pytest.approx(true_error, rel=0.15)


# Folders ------------------------------------------------------------------------------------------------------


def test_the_command_prints_what_pytorch_fid_prints_and_kid_before_it(tmp_path, monkeypatch, capsys, weights):
    golden = json.loads((GOLDEN / "golden_end_to_end.json").read_text(encoding="utf-8"))
    pair = golden["pairs"][1]
    for name in pair["folders"]:
        folder = golden["folders"][name]
        pictures = recipe.synthetic_images(folder["image_seed"], folder["count"], tuple(folder["height_width"]))
        write(tmp_path / name, pictures)
    sides = [str(tmp_path / name) for name in pair["folders"]]
    monkeypatch.setattr(sys, "argv", ["fid.py", *sides, "--weights", str(weights), "--kid", "--device", "cpu"])
    fid.main()
    out, err = capsys.readouterr()
    assert value_of(out) == pytest.approx(pair["exact"], rel=2e-5)
    assert value_of(out) == pytest.approx(pair["pytorch_fid"], rel=5e-5)
    assert value_of(out, "KID") > 0
    assert "with --kid" in err and err.count("numbers differ from others'") == 1


def test_two_processes_give_the_statistics_and_distances_of_one(tmp_path, weights, ten_steps):
    for seed, name, count in ((1, "a", 5), (2, "b", 4)):
        write(tmp_path / name, noise(seed, count))
    one, two = (script(tmp_path, "a", "b", "--kid", "--weights", weights, start=s) for s in ((), TORCHRUN))
    assert value_of(two) == pytest.approx(value_of(one), abs=2e-4)
    assert value_of(two, "KID") == pytest.approx(value_of(one, "KID"), abs=1e-5)
    assert "a: 5 pictures" in two and two.count("FID: ") == 1

    runs = [tmp_path / name for name in ("run1", "run2")]
    for run, start in zip(runs, ((), TORCHRUN), strict=True):
        (run / "snapshots").mkdir(parents=True)
        shutil.copy(ten_steps / "config.json", run)
        shutil.copy(ten_steps / "snapshots/000010.pt", run / "snapshots")
        script(tmp_path, "a", run, "--count", "5", "--weights", weights, start=start)
    (row1,), (row2,) = map(rows_of, runs)
    assert row1["step"] == row2["step"] == "10" and float(row1["fid"]) > 0
    assert float(row2["fid"]) == pytest.approx(float(row1["fid"]), abs=2e-4)


def test_mixed_sizes_and_sub_folders_count_and_a_batch_never_matters(tmp_path):
    for place, size in enumerate(((10, 20), (400, 310), (299, 299))):
        write(tmp_path / f"sub{place}/deeper", noise(place, 2, *size))
    found = [statistics(tmp_path, batch) for batch in (1, 4, 50)]
    features = torch.cat([Colours()(fid.read_picture(path)[None]) for path in sorted(tmp_path.rglob("*.png"))])
    for mu, sigma, count in found:
        assert count == 6
        np.testing.assert_allclose(mu, features.double().mean(0), atol=1e-6)
        np.testing.assert_allclose(sigma, np.cov(features.double().numpy(), rowvar=False), atol=1e-6)
    picture = Image.open(tmp_path / "sub1/deeper/000.png")
    large = F.interpolate(torch.tensor(np.array(picture)).permute(2, 0, 1)[None] / 255, (299, 299), mode="bilinear")
    torch.testing.assert_close(fid.read_picture(tmp_path / "sub1/deeper/000.png"), large[0])


@pytest.mark.parametrize("processes", [1, 3, 8])
def test_every_picture_has_one_process_even_where_some_have_none(tmp_path, monkeypatch, ten_steps, processes):
    paths = fid.picture_files(write(tmp_path, noise(0, 5)), 2)
    generator, z = snapshots.load_generator(snapshots.find_snapshot(ten_steps))[0], snapshots.latents(0, 5)
    monkeypatch.setattr(fid, "world_size", lambda: processes)
    read, drawn = [], []
    for rank in range(processes):
        monkeypatch.setattr(fid, "rank", lambda rank=rank: rank)
        read += fid.read_batches(paths, batch=2)
        drawn += fid.draw_batches(generator, z, batch=2)
    assert all(len(pictures) for pictures in read + drawn)
    whole = torch.stack([fid.read_picture(path) for path in paths]), snapshots.generate(generator, z).float() / 255
    for shares, all_pictures in zip((read, drawn), whole, strict=True):
        means, wanted = (pictures.mean((1, 2, 3)).sort().values for pictures in (torch.cat(shares), all_pictures))
        torch.testing.assert_close(means, wanted, atol=1e-4, rtol=0)


def test_collapsed_and_identical_folders(tmp_path, command):
    real = write(tmp_path / "real", noise(0, 6))
    same = write(tmp_path / "same", noise(0, 6))
    collapsed = write(tmp_path / "collapsed", np.repeat(noise(1, 1), 5, axis=0))
    more = write(tmp_path / "more", np.repeat(noise(1, 1), 7, axis=0))
    assert value_of(command(real, same)[1]) == 0
    assert value_of(command(collapsed, more)[1]) == 0
    mu, sigma, _ = statistics(real)
    one = statistics(collapsed).mu
    exact = np.sum((mu - one) ** 2) + np.trace(sigma)
    assert value_of(command(real, collapsed)[1]) == pytest.approx(exact, abs=1e-3)


def test_saved_statistics_stand_for_the_folder_and_read_as_pytorch_fids(tmp_path, command):
    a, b = write(tmp_path / "a", noise(0, 4)), write(tmp_path / "b", noise(1, 4))
    assert command("--save-stats", a, tmp_path / "a.npz")[0] == 0
    folder = value_of(command(a, b)[1])
    assert value_of(command(tmp_path / "a.npz", b)[1]) == folder > 0
    with np.load(tmp_path / "a.npz") as file:  # as pytorch-fid does
        mu, sigma = file["mu"][:], file["sigma"][:]
    assert (mu.shape, sigma.shape, mu.dtype, sigma.dtype) == ((2048,), (2048, 2048), np.float64, np.float64)
    np.savez(tmp_path / "theirs.npz", mu=mu, sigma=sigma)
    assert value_of(command(b, tmp_path / "theirs.npz")[1]) == pytest.approx(folder, abs=1e-4)


def test_count_takes_as_many_of_each_side_evenly_over_the_sorted_files_and_json_tells_all(tmp_path, command):
    pictures = noise(0, 13)
    real, some = write(tmp_path / "real", pictures), write(tmp_path / "some", pictures[[0, 4, 8, 12]])
    fake, first = write(tmp_path / "fake", noise(1, 6)), write(tmp_path / "first", noise(1, 6)[[0, 2, 3, 5]])
    status, out, _ = command(real, fake, "--count", 4, "--kid", "--json")
    found = json.loads(out)
    assert status == 0 and (found["real_count"], found["fake_count"]) == (4, 4)
    wanted = command(some, first, "--kid")[1]
    assert found["fid"] == pytest.approx(value_of(wanted), abs=1e-4)
    assert f"KID: {found['kid']:.6f} +- {found['kid_error']:.6f}" in wanted


def test_pictures_of_other_sizes_are_warned_of(tmp_path, command, means_only, ten_steps):
    large, small = write(tmp_path / "large", noise(0, 4, 64, 64)), write(tmp_path / "small", noise(1, 4, 32, 32))
    run = shutil.copytree(ten_steps, tmp_path / "run")
    for sides, warned in (
        ((large, small), True),
        ((small, small), False),
        ((large, run), True),
        ((small, run), False),
    ):
        status, _, err = command(*sides, "--count", 4)
        assert status == 0 and ("resized" in err) == warned


def test_a_broken_picture_is_told_by_its_name_before_any_work_but_a_jpeg_cut_short_when_it_is_read(
    tmp_path, command, monkeypatch
):
    good, bad = write(tmp_path / "good", noise(0, 4)), write(tmp_path / "bad", noise(0, 100))
    picture = Image.open(bad / "099.png").resize((64, 64))
    picture.save(tmp_path / "whole.jpg")
    (good / "short.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-300])
    status, _, err = command(good, good)
    assert status == 2 and "short.jpg" in err.splitlines()[-1]
    (bad / "099.png").write_bytes((bad / "099.png").read_bytes()[:150])  # its header is whole
    monkeypatch.setattr(fid, "read_batches", None)
    status, _, err = command(good, bad)
    assert status == 2 and "099.png" in err


# Runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(ten_steps, tmp_path):
    return shutil.copytree(ten_steps, tmp_path / "run")


def test_a_run_has_the_distance_of_its_pictures_in_files_for_each_snapshot(tmp_path, command, run):
    real, steps = write(tmp_path / "real", noise(0, 6, 32, 32)), []
    status, out, _ = command(real, run, "--count", 6)
    for path in sorted((run / "snapshots").iterdir()):
        generator, step = snapshots.load_generator(path)
        sample.write_pictures(generator, 0, 6, tmp_path / f"fake{step}")
        wanted = value_of(command(real, tmp_path / f"fake{step}")[1])
        steps.append({"step": str(step), "count": "6", "fid": f"{wanted:.4f}"})
        assert f"step {step}: FID {wanted:.4f}" in out
    assert status == 0 and len(steps) > 1
    assert [{key: row[key] for key in ("step", "count", "fid")} for row in rows_of(run)] == steps
    assert out.splitlines()[-1] == f"FID: {steps[-1]['fid']}"
    found = json.loads(command(run, real, "--count", 6, "--json")[1])  # a run may be the first side
    assert [f"{value:.4f}" for value in found["steps"].values()] == [row["fid"] for row in steps]


def test_measuring_a_run_goes_on_where_it_stopped_and_a_row_never_stands_for_another(
    tmp_path, command, means_only, run, monkeypatch
):
    real, other = write(tmp_path / "real", noise(0, 6, 32, 32)), write(tmp_path / "other", noise(1, 6, 32, 32))
    steps, draw, drawn, last = len(list((run / "snapshots").iterdir())), fid.draw_batches, [], [1]

    def draw_batches(*arguments):
        if len(drawn) == last[0]:
            raise KeyboardInterrupt
        drawn.append(arguments)
        return draw(*arguments)

    def measured(side, *more):
        drawn.clear()
        status, out, _ = command(side, run, "--count", 6, *more)
        assert status in (0, 130) and all(line.startswith(("step", "FID", str(side))) for line in out.splitlines())
        return len(drawn)

    monkeypatch.setattr(fid, "draw_batches", draw_batches)
    assert measured(real) == 1 and len(rows_of(run)) == 1  # stopped at the second snapshot
    last[0] = None
    assert measured(real) == steps - 1
    rows = rows_of(run)
    assert measured(real) == 0 and rows_of(run) == rows
    for again in ((other,), (real,), (real, "--seed", 1), (real, "--count", 5)):  # other photos, z or counts
        assert measured(*again) == steps == len(rows_of(run))
    assert measured(real) == steps and rows_of(run) == rows
    lines = (run / "fid.csv").read_text(encoding="utf-8").splitlines()
    (run / "fid.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines[:-1], lines[-1][:-9], "x,y"]).encode())
    assert measured(real) == 1 and rows_of(run) == rows  # what another program did costs the rows that it broke


def test_other_weights_and_another_count_measure_a_run_again(tmp_path, command, means_only, run, monkeypatch):
    command("--save-stats", write(tmp_path / "real", noise(0, 6, 32, 32)), tmp_path / "real.npz")
    first = value_of(command(tmp_path / "real.npz", run, "--count", 6)[1])
    command(tmp_path / "real.npz", run, "--count", 5)
    assert {row["count"] for row in rows_of(run)} == {"5"}
    other = Colours()
    other.mix = other.mix * 2
    monkeypatch.setattr(fid, "load_inception", lambda weights=None, device="cpu": other)
    assert value_of(command(tmp_path / "real.npz", run, "--count", 6)[1]) != first


# Mistakes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mistakes(tmp_path, monkeypatch):
    """A working folder full of them, and one good folder of pictures."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("good", 5), ("three", 3), ("one", 1), ("bad", 5)):
        write(tmp_path / name, noise(0, count))
    Path("empty").mkdir()
    Path("bad/broken.png").write_bytes(Path("bad/000.png").read_bytes()[:100])
    Path("run").mkdir()
    Path("run/config.json").touch()
    np.savez("dims64.npz", mu=np.zeros(64), sigma=np.eye(64))
    np.savez("sound.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    np.savez("nan.npz", mu=np.full(2048, np.nan), sigma=np.eye(2048))
    np.savez("infinite.npz", mu=np.zeros(2048), sigma=np.full((2048, 2048), np.inf))
    negative = np.eye(2048)
    negative[:2, :2] = [[0, 5], [5, 0]]
    np.savez("negative.npz", mu=np.zeros(2048), sigma=negative)
    np.savez("other.npz", pictures=np.eye(3))
    np.savez("objects.npz", mu=np.array([None]), sigma=np.array([None]))
    Path("text.npz").write_text("no statistics", encoding="utf-8")
    Path("real.zip").write_text("no statistics", encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nix good", ["nix"]),
        ("good empty", ["empty"]),
        ("good one", ["one", "2 or more"]),
        ("good three --kid", ["three", "4 or more", "3"]),
        ("good three --count 4", ["three", "4 or more", "3"]),
        ("good bad", ["broken.png"]),
        ("dims64.npz good", ["dims64.npz", "(64,)", "2048"]),
        ("good nan.npz", ["nan.npz", "finite"]),
        ("good infinite.npz", ["infinite.npz", "finite"]),
        ("good negative.npz", ["negative.npz", "negative variances"]),
        ("good other.npz", ["other.npz", "mu and sigma"]),
        ("good objects.npz", ["objects.npz", "mu and sigma"]),
        ("good text.npz", ["text.npz", "mu and sigma"]),
        ("good nix.npz", ["nix.npz", "no such file"]),
        ("real.zip good", ["real.zip", "a file", "folder"]),
        ("good sound.npz --kid", ["--kid", ".npz"]),
        ("good sound.npz --count 4", ["--count", "sound.npz"]),
        ("good run", ["run", "snapshots"]),
        ("run run", ["run", "folder of photos"]),
        ("--save-stats run x.npz", ["run", "folder of photos"]),
        ("good run --kid", ["--kid", "two folders"]),
        ("--save-stats good x", ["--save-stats x", "new file", "ends in .npz"]),
        ("--save-stats good nan.npz", ["--save-stats nan.npz", "new file"]),
        ("--save-stats good nix/real.npz", ["--save-stats nix/real.npz", "a folder that is there"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2_before_any_work(mistakes, command, monkeypatch, arguments, words):
    monkeypatch.setattr(fid, "load_inception", None)
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    status, out, err = command(*arguments.split())
    assert status == 2 and not out
    (line,) = err.splitlines()
    assert all(word in line for word in words) and "pickle" not in line and "Errno" not in line, line
    assert before == {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
