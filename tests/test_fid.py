"""FID: the network against golden numbers, statistics and distances against closed forms, and the command.

golden/ holds what pytorch-fid computed under made-up weights; its README tells how, and which tolerance to expect.
"""

import hashlib
import json
import os
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
import fid
import inception as network

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
        self.mix = torch.randn(6, 2048, generator=torch.Generator().manual_seed(0))

    def forward(self, images):
        assert all(image[0].numel() <= 299**2 for image in images)  # large ones never come at their full size
        images = torch.cat([network.resize(image[None]) for image in images])
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


def script(folder, *arguments, start=()):
    line = [sys.executable, *start, fid.__file__, *map(str, arguments), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


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


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda state: state.pop("Mixed_6c.branch_pool.bn.bias"), "Mixed_6c.branch_pool.bn.bias"),
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


# Statistics ---------------------------------------------------------------------------------------------------


def normals(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_statistics_are_numpys_whatever_the_batches():
    features = normals(101, 7) * torch.arange(1, 8) + 5
    for sizes in ((101,), (1,) * 101, (3, 90, 8)):
        total = fid.collect(features.split(sizes), 7)
        assert total.count == 101
        np.testing.assert_allclose(total.mu, features.mean(0), rtol=1e-12)
        np.testing.assert_allclose(total.sigma, np.cov(features.numpy(), rowvar=False), rtol=1e-9, atol=1e-11)


def test_plain_sums_keep_the_digits_of_a_million_features():
    features = 7 + 0.01 * normals(1000, 4)  # a mean as large as features get, and little variance
    total = fid.collect([features] * 1000, 4)
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
    found = fid.frechet_distance(mu1, np.atleast_2d(sigma1), mu2, np.atleast_2d(sigma2))
    assert found == pytest.approx(exact, rel=1e-10, abs=1e-10 * scale)  # singular covariances, too
    if case.startswith("identical"):
        assert found == 0


def random_covariance(seed, d=30):
    x = np.random.default_rng(seed).standard_normal((d, d)) * np.linspace(0.1, 3, d)
    return x.T @ x / d


def test_closed_forms():
    a, zero = random_covariance(0), np.zeros(30)
    shift = np.random.default_rng(2).standard_normal(30)
    assert fid.frechet_distance(zero, a, shift, a) == pytest.approx(shift @ shift, rel=1e-12)
    assert fid.frechet_distance([3.0], [[4.0]], [-1.0], [[25.0]]) == pytest.approx(4**2 + (2 - 5) ** 2)


def test_collapsed_generators_have_a_distance():
    zero, none, a = np.zeros(30), np.zeros((30, 30)), random_covariance(0)
    assert fid.frechet_distance(zero, none, zero, none) == 0
    assert fid.frechet_distance(zero, none, zero + 1, none) == 30
    assert fid.frechet_distance(zero, none, zero, a) == pytest.approx(np.trace(a), rel=1e-14)
    left, right = np.diag([2.0] * 15 + [0.0] * 15), np.diag([0.0] * 15 + [3.0] * 15)  # nothing in common
    assert fid.frechet_distance(zero, left, zero, right) == 75


def test_the_distance_is_never_negative_nor_of_what_is_not_finite():
    for seed in range(20):  # nearly the same, so that rounding decides about the sign
        a = random_covariance(seed)
        nudged = a.copy()
        nudged[0, 0] *= 1 + 1e-15
        assert 0 <= fid.frechet_distance(np.zeros(30), a, np.zeros(30), nudged) < 1e-12
    with pytest.raises(common.UserError, match="finite"):
        fid.frechet_distance(np.zeros(3), np.eye(3), np.zeros(3), np.full((3, 3), np.nan))


def test_what_is_no_covariance_has_no_distance_rather_than_zero():
    broken = np.diag([-5.0, 1.0, 1.0])
    with pytest.raises(common.UserError, match="covariance"):
        fid.frechet_distance(np.zeros(3), np.eye(3), np.zeros(3), broken)


# KID ----------------------------------------------------------------------------------------------------------


def test_kid_is_the_mean_over_pairs_of_different_pictures():
    x, y = normals(4, 3), normals(5, 3, seed=1)
    k = lambda a, b: (float(a @ b) / 3 + 1) ** 3  # noqa: E731
    within = [np.mean([k(a, b) for a in s for b in s if a is not b]) for s in (list(x), list(y))]
    across = np.mean([k(a, b) for a in x for b in y])
    assert fid.squared_mmd(x, y).item() == pytest.approx(sum(within) - 2 * across)


def test_kid_of_few_pictures_is_unbiased_and_its_error_is_that_of_its_mean():
    population, other = normals(200, 6), normals(200, 6, seed=1) + 0.5
    kernel = lambda a, b: ((a @ b.T / 6 + 1) ** 3).mean()  # noqa: E731
    truth = kernel(population, population) + kernel(other, other) - 2 * kernel(population, other)
    random = torch.Generator().manual_seed(0)
    draw = lambda s: s[torch.randint(200, (30,), generator=random)]  # noqa: E731
    for second, exact in ((other, truth.item()), (population, 0.0)):
        found = np.array([fid.kernel_distance(draw(population), draw(second), seed) for seed in range(600)])
        assert abs(found[:, 0].mean() - exact) < 4 * found[:, 0].std() / 600**0.5
        # The standard error told is the spread of the whole estimate over draws.
        assert np.sqrt((found[:, 1] ** 2).mean()) == pytest.approx(found[:, 0].std(), rel=0.15)


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
    assert "use --kid" in err and err.count("numbers differ from others'") == 1


def test_two_processes_give_the_statistics_and_distances_of_one(tmp_path, weights):
    for seed, name, count in ((1, "a", 5), (2, "b", 4)):
        write(tmp_path / name, noise(seed, count))
    one, two = (script(tmp_path, "a", "b", "--kid", "--weights", weights, start=s) for s in ((), TORCHRUN))
    assert value_of(two) == pytest.approx(value_of(one), abs=2e-4)
    assert value_of(two, "KID") == pytest.approx(value_of(one, "KID"), abs=1e-5)
    assert "a: 5 pictures" in two and two.count("FID: ") == 1


def test_mixed_sizes_and_sub_folders_count_and_a_batch_never_matters(tmp_path):
    for place, size in enumerate(((10, 20), (400, 310), (299, 299))):
        write(tmp_path / f"sub{place}/deeper", noise(place, 2, *size))
    found = [fid.folder_statistics(tmp_path, Colours(), batch) for batch in (1, 4, 50)]
    features = torch.cat([Colours()([fid.read_picture(path)]) for path in sorted(tmp_path.rglob("*.png"))])
    for mu, sigma, count in found:
        assert count == 6
        np.testing.assert_allclose(mu, features.double().mean(0), atol=1e-6)
        np.testing.assert_allclose(sigma, np.cov(features.double().numpy(), rowvar=False), atol=1e-6)
    picture = Image.open(tmp_path / "sub1/deeper/000.png")
    large = F.interpolate(torch.tensor(np.array(picture)).permute(2, 0, 1)[None] / 255, (299, 299), mode="bilinear")
    torch.testing.assert_close(fid.read_picture(tmp_path / "sub1/deeper/000.png"), large[0])


def test_collapsed_and_identical_folders(tmp_path, command):
    real = write(tmp_path / "real", noise(0, 6))
    same = write(tmp_path / "same", noise(0, 6))
    collapsed = write(tmp_path / "collapsed", np.repeat(noise(1, 1), 5, axis=0))
    more = write(tmp_path / "more", np.repeat(noise(1, 1), 7, axis=0))
    assert value_of(command(real, same)[1]) == 0
    assert value_of(command(collapsed, more)[1]) == 0
    mu, sigma, _ = fid.folder_statistics(real, Colours())
    one = fid.folder_statistics(collapsed, Colours())[0]
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


# Mistakes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mistakes(tmp_path, monkeypatch):
    """A working folder full of them, and one good folder of pictures."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("good", 3), ("one", 1), ("bad", 2)):
        write(tmp_path / name, noise(0, count))
    Path("empty").mkdir()
    Path("bad/broken.png").write_bytes(Path("bad/000.png").read_bytes()[:100])
    np.savez("dims64.npz", mu=np.zeros(64), sigma=np.eye(64))
    np.savez("sound.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    np.savez("nan.npz", mu=np.zeros(2048), sigma=np.eye(2048) * np.nan)
    np.savez("other.npz", pictures=np.eye(3))
    Path("real.zip").write_text("no statistics", encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nix good", ["nix"]),
        ("good empty", ["empty"]),
        ("good one", ["2 or more"]),
        ("good good --kid", ["4 or more", "3"]),
        ("good bad", ["broken.png"]),
        ("dims64.npz good", ["dims64.npz", "(64,)", "2048"]),
        ("good nan.npz", ["nan.npz"]),
        ("good other.npz", ["other.npz", "mu and sigma"]),
        ("good nix.npz", ["nix.npz"]),
        ("real.zip good", ["real.zip", "a file", "folder"]),
        ("good sound.npz --kid", ["--kid", ".npz"]),
        ("--save-stats good x", ["--save-stats x", ".npz"]),
        ("--save-stats good nan.npz", ["--save-stats nan.npz"]),
        ("--save-stats good nix/real.npz", ["nix/real.npz"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2(mistakes, command, arguments, words):
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    status, out, err = command(*arguments.split())
    assert status == 2 and "FID:" not in out
    (line,) = (line for line in err.splitlines() if " a second" not in line and not line.startswith("warning"))
    assert all(word in line for word in words), line
    assert before == {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
