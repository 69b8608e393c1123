"""FID: the network against golden numbers, statistics and distance against closed forms, and the command.

golden/ holds what pytorch-fid computed under made-up weights; its README tells how, and which tolerance to expect.
"""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import recipe
from PIL import Image
from torch import nn
from torch.nn import functional as F

import data
import fid

GOLDEN = Path(__file__).parent / "golden"
FEATURES = np.load(GOLDEN / "golden_features.npz")
FRECHET = np.load(GOLDEN / "golden_frechet.npz")
SCRIPT = Path(fid.__file__)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file with the made-up weights."""
    path = tmp_path_factory.mktemp("weights") / "synthetic.pth"
    torch.save(recipe.synthetic_state_dict(0, recipe.read_names(GOLDEN / "inception_names.txt")), path)
    return path


@pytest.fixture(scope="session")
def inception(weights):
    return fid.load_inception(weights)


class Colours(nn.Linear):
    """In place of Inception where the network doesn't matter: 2048 mixtures of a picture's mean and spread."""

    weights = "colours"

    def __init__(self):
        super().__init__(1, 1)
        self.mix = torch.randn(6, 2048, generator=torch.Generator().manual_seed(0))
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1) @ self.mix


def write(folder, pictures, name="{:03d}.png"):
    """uint8 (N, H, W, 3) -> PNG files in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / name.format(index))
    return folder


def random_pictures(seed, count, height=16, width=16):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs fid.py in this process with a small network in place of Inception -> (status, stdout, stderr)."""

    def load(weights=None, device="cpu", precision="fp32"):
        network = Colours()
        network.weights = (weights or fid.SHA256) + (" bf16" if precision == "bf16" else "")
        return network

    monkeypatch.setattr(fid, "load_inception", load)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fid.py", *map(str, arguments)])
        try:
            data.run(fid.main)
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


def distance_of(out):
    name, _, value = out.strip().splitlines()[-1].rpartition(": ")
    assert name in ("FID", fid.UNTRAINED)
    return float(value)


# The network --------------------------------------------------------------------------------------------------


def golden_images(group):
    arguments = (f"image_{name}_{group}" for name in ("seed", "count", "height_width"))
    seed, count, size = (FEATURES[name].tolist() for name in arguments)
    return torch.from_numpy(recipe.synthetic_images(seed, count, tuple(size))).permute(0, 3, 1, 2) / 255


def relative(found, golden):
    golden = torch.from_numpy(golden)
    return ((found - golden).norm() / golden.norm()).item()


@pytest.mark.parametrize("group", FEATURES["groups"].tolist())
def test_features_logits_and_maps_are_those_of_pytorch_fid(inception, group):
    maps = {}
    after = {"block64": inception.Conv2d_2b_3x3, "block192": inception.Conv2d_4a_3x3, "block768": inception.Mixed_6e}
    hooks = [
        module.register_forward_hook(lambda module, _, x, name=name: maps.setdefault(name, []).append(x.clone()))
        for name, module in after.items()
    ]
    features = inception(golden_images(group))
    for hook in hooks:
        hook.remove()
    assert features.dtype == torch.float32 and features.shape[1] == 2048
    assert relative(features, FEATURES[f"pool3_{group}"]) < 3e-4
    logits = inception.fc(features).detach()
    assert relative(logits, FEATURES[f"logits_{group}"]) < 3e-4
    assert relative(logits - inception.fc.bias.detach(), FEATURES[f"logits_unbiased_{group}"]) < 3e-4
    for name, tolerance in (("block64", 1e-5), ("block192", 1e-5), ("block768", 1e-4)):
        x = torch.cat(maps[name])
        x = x if name == "block768" else F.max_pool2d(x, 3, stride=2)
        assert relative(x.mean((2, 3)), FEATURES[f"{name}_mean_{group}"]) < tolerance


def test_features_do_not_depend_on_the_other_pictures_of_the_batch(inception):
    images = torch.rand(10, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    one_by_one = torch.cat([inception(image[None]) for image in images])
    assert (inception(images) - one_by_one).abs().max() < 1e-4


def test_the_names_and_shapes_are_those_of_the_well_known_file():
    ours = [(name, tuple(value.shape)) for name, value in fid.Inception().state_dict().items()]
    assert sorted(ours) == sorted(recipe.read_names(GOLDEN / "inception_names.txt"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda state: state.pop("Mixed_6c.branch_pool.bn.bias"), "Mixed_6c.branch_pool.bn.bias is missing"),
        (lambda state: state.update({"AuxLogits.fc.bias": torch.zeros(3)}), "AuxLogits.fc.bias doesn't belong"),
        (
            lambda state: state.update({"fc.weight": torch.zeros(1000, 2048)}),
            r"fc.weight isn't a tensor of shape \(1008, 2048\)",
        ),
        (
            lambda state: state.update({"Conv2d_1a_3x3.bn.num_batches_tracked": "x"}),
            "Conv2d_1a_3x3.bn.num_batches_tracked isn't a tensor",
        ),
        (lambda state: state["Conv2d_1a_3x3.bn.weight"].fill_(torch.nan), "Conv2d_1a_3x3.bn.weight isn't finite"),
        (lambda state: [state.clear(), state.update({"epoch": 3})], "Conv2d_1a_3x3.bn.bias is missing, and 566 more"),
    ],
)
def test_weights_of_another_network_are_refused_naming_the_entry(monkeypatch, weights, spoil, words):
    state = fid.Inception().state_dict()
    spoil(state)
    monkeypatch.setattr(fid, "read_checkpoint", lambda path: state)
    with pytest.raises(fid.UserError, match=f"{weights.name}: not the Inception network of FID: {words}"):
        fid.load_inception(weights)


def test_without_a_network_one_line_says_what_to_put_where(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(fid, "URL", "http://127.0.0.1:1/pt_inception.pth")
    with pytest.raises(fid.UserError) as caught:
        fid.load_inception()
    message = str(caught.value)
    assert "\n" not in message
    for part in (fid.URL, "91 MB", str(tmp_path / "hub/checkpoints/pt_inception.pth"), "--weights"):
        assert part in message


def test_fetched_weights_are_checked_and_kept(monkeypatch, tmp_path, weights):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(fid, "URL", weights.as_uri())
    with pytest.raises(fid.UserError, match="hash"):
        fid.fetch_weights()
    assert not list(tmp_path.rglob("*.pth*"))  # nothing half or wrong stays

    monkeypatch.setattr(fid, "SHA256", hashlib.sha256(weights.read_bytes()).hexdigest()[:8])
    path = fid.fetch_weights()
    assert path.read_bytes() == weights.read_bytes()
    monkeypatch.setattr(fid, "URL", f"http://127.0.0.1:1/{weights.name}")
    assert fid.fetch_weights() == path

    monkeypatch.setattr(fid, "SHA256", "01234567")  # the right network under the usual name, but not the usual weights
    with pytest.raises(fid.UserError, match=f"{path.name} isn't the usual file"):
        fid.load_inception()


def test_random_weights_are_the_same_everywhere_and_tell_pictures_apart():
    pictures = torch.from_numpy(recipe.synthetic_images(0, 4, 64)).permute(0, 3, 1, 2) / 255
    features = fid.load_inception("random")(pictures)
    assert torch.equal(features, fid.load_inception("random")(pictures))
    assert features.mean().item() == pytest.approx(0.2660, rel=0.01)  # would change with torch's random numbers
    cosine = F.normalize(features) @ F.normalize(features).T
    assert (cosine - torch.eye(4)).max() < 0.97  # 0.98 and more with He's initialisation


# Statistics ---------------------------------------------------------------------------------------------------


def statistics(features, *sizes):
    total = fid.Statistics(features.shape[1])
    for part in features.split(sizes or len(features)):
        total.add(part)
    return total


def normals(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_statistics_are_numpys_whatever_the_batches_and_their_order():
    features = normals(101, 7) * torch.arange(1, 8) + 50
    mu, sigma = features.mean(0), torch.from_numpy(np.cov(features.numpy(), rowvar=False))
    for sizes in ((101,), (1,) * 101, (100, 1), (3, 90, 8)):
        for order in (features, features.flip(0)):
            found = statistics(order, *sizes)
            assert found.count == 101
            torch.testing.assert_close(found.mu, mu, rtol=1e-12, atol=0)
            torch.testing.assert_close(found.sigma, sigma, rtol=1e-9, atol=1e-10)


def test_merging_gives_the_statistics_of_the_union():
    features = normals(60, 5) + torch.linspace(0, 9, 60)[:, None]
    one, two, whole = statistics(features[:13]), statistics(features[13:]), statistics(features)
    one.merge(two.count, two.mu, two.scatter)
    torch.testing.assert_close((one.mu, one.sigma), (whole.mu, whole.sigma), rtol=1e-12, atol=1e-12)


def test_a_large_mean_costs_no_digits_and_equal_pictures_have_no_variance():
    features = normals(500, 3)
    far = statistics(features + 1e7, *(50,) * 10)
    torch.testing.assert_close(far.sigma, statistics(features).sigma, rtol=1e-7, atol=1e-8)
    assert (statistics(torch.full((64, 3), 0.25), *(16,) * 4).sigma == 0).all()


# The distance -------------------------------------------------------------------------------------------------


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
    # Singular covariances too; golden/README.md allows 1e-5 of the traces there.
    assert found == pytest.approx(exact, rel=1e-10, abs=1e-10 * scale)
    if case.startswith("identical"):
        assert found == 0


def random_covariance(seed, d=30, rank=30):
    x = np.random.default_rng(seed).standard_normal((rank, d)) * np.linspace(0.1, 3, d)
    return x.T @ x / rank


def test_closed_forms():
    a, b, zero = random_covariance(0), random_covariance(1), np.zeros(30)
    shift = np.random.default_rng(2).standard_normal(30)
    assert fid.frechet_distance(zero, a, shift, a) == pytest.approx(shift @ shift, rel=1e-12)
    assert fid.frechet_distance([3.0], [[4.0]], [-1.0], [[25.0]]) == pytest.approx(4**2 + (2 - 5) ** 2)
    values, vectors = np.linalg.eigh(a)
    other = np.random.default_rng(3).random(30)
    commuting = (vectors * other) @ vectors.T
    closed = np.sum((np.sqrt(values) - np.sqrt(other)) ** 2)
    assert fid.frechet_distance(zero, a, zero, commuting) == pytest.approx(closed, rel=1e-11)
    assert fid.frechet_distance(zero, a, zero, b) == pytest.approx(fid.frechet_distance(zero, b, zero, a), rel=1e-12)
    scaled = 25 * fid.frechet_distance(zero, a, shift, b)
    assert fid.frechet_distance(zero, 25 * a, 5 * shift, 25 * b) == pytest.approx(scaled, rel=1e-12)


def test_collapsed_generators_have_a_distance():
    zero, none, a = np.zeros(30), np.zeros((30, 30)), random_covariance(0)
    assert fid.frechet_distance(zero, none, zero, none) == 0
    assert fid.frechet_distance(zero, none, zero + 1, none) == 30
    assert fid.frechet_distance(zero, none, zero, a) == pytest.approx(np.trace(a), rel=1e-14)
    left, right = np.diag([2.0] * 15 + [0.0] * 15), np.diag([0.0] * 15 + [3.0] * 15)  # nothing in common
    assert fid.frechet_distance(zero, left, zero, right) == 75
    one = np.outer(np.arange(30.0), np.arange(30.0))
    assert fid.frechet_distance(zero, one, zero, 9 * one) == pytest.approx(4 * np.trace(one), rel=1e-12)


def test_a_distance_of_what_is_not_finite_is_refused():
    nan = np.full((3, 3), np.nan)
    with pytest.raises(fid.UserError, match="aren't finite"):
        fid.frechet_distance(np.zeros(3), np.eye(3), np.zeros(3), nan)
    with pytest.raises(fid.UserError, match="at least 2"):
        fid.collect([torch.zeros(1, 2048)], Colours())


def test_sets_that_vary_in_directions_partly_at_right_angles():
    one, two = np.diag([1.0] * 10 + [0.0] * 5), np.diag([0.0] * 5 + [1.0] * 10)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((15, 15)))[0]
    found = fid.frechet_distance(np.zeros(15), turn @ one @ turn.T, np.zeros(15), turn @ two @ turn.T)
    assert found == pytest.approx(10, rel=1e-6)  # 10 + 10 - 2 * 5: the hardest case for the squared factor


@pytest.mark.parametrize(("count1", "count2"), [(20, 20), (20, 90), (500, 15), (64, 65), (65, 66)])
def test_few_pictures_of_many_features_against_singular_values_of_the_features(count1, count2):
    random = np.random.default_rng(count1)
    decay = np.exp(-np.arange(64) / 6)  # variances over nine orders of magnitude, as hard as features get
    one, two = (random.standard_normal((count, 64)) * decay for count in (count1, count2))
    centred = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (one, two)]
    traces = sum(np.sum(x**2) for x in centred)
    nuclear = np.linalg.norm(centred[0] @ centred[1].T, "nuc")
    exact = np.sum((one.mean(0) - two.mean(0)) ** 2) + traces - 2 * nuclear
    pairs = [part for x in (one, two) for part in (x.mean(0), np.cov(x, rowvar=False))]
    assert fid.frechet_distance(*pairs) == pytest.approx(exact, rel=1e-10)


def test_the_distance_is_never_negative():
    for seed in range(20):  # nearly the same, so that rounding decides about the sign
        a = random_covariance(seed)
        nudged = a.copy()
        nudged[0, 0] *= 1 + 1e-15
        assert 0 <= fid.frechet_distance(np.zeros(30), a, np.zeros(30), nudged) < 1e-12


# End to end ---------------------------------------------------------------------------------------------------


def test_the_command_prints_what_pytorch_fid_prints(tmp_path, capsys, monkeypatch, weights):
    golden = json.loads((GOLDEN / "golden_end_to_end.json").read_text())
    for name, folder in golden["folders"].items():
        pictures = recipe.synthetic_images(folder["image_seed"], folder["count"], tuple(folder["height_width"]))
        write(tmp_path / name, pictures, "{:05d}.png")
    for pair in golden["pairs"]:  # b is seen once: the second pair finds its statistics
        monkeypatch.setattr(
            sys, "argv", ["fid.py", *(str(tmp_path / x) for x in pair["folders"]), "--weights", str(weights)]
        )
        fid.main()
        out, err = capsys.readouterr()
        assert out.splitlines()[-1].startswith("FID: ")
        assert distance_of(out) == pytest.approx(pair["exact"], rel=2e-5)
        assert distance_of(out) == pytest.approx(pair["pytorch_fid"], rel=5e-5)
        assert "and 200 pictures: the fewer" in err and "not the weights that everybody uses" in err


def test_as_many_pictures_as_features_are_too_few(capsys):
    for count, warned in ((2048, True), (2049, False)):  # their covariance has rank count - 1
        fid.print_counts([("real", {"count": 10**6}), ("fake", {"count": count})])
        assert ("the fewer there are" in capsys.readouterr().err) == warned


TWO_PROCESSES = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def script(folder, *arguments, start=()):
    """fid.py as users start it, in a folder; never longer than two minutes."""
    line = [sys.executable, *start, SCRIPT, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_two_processes_give_the_statistics_and_the_tables_of_one(tmp_path):
    for seed, name, count in ((1, "a", 5), (2, "b", 4)):
        write(tmp_path / name, random_pictures(seed, count), f"{name}_{{}}.png")
    for out, start in (("one.npz", ()), ("two.npz", TWO_PROCESSES)):
        done = script(tmp_path, "--save-stats", "a", out, "--weights", "random", "--no-cache", start=start)
        assert done.returncode == 0, done.stderr
    one, two = (fid.read_statistics(tmp_path / name) for name in ("one.npz", "two.npz"))
    assert one["count"] == two["count"] == 5
    for name in ("mu", "sigma"):
        scale = np.abs(one[name]).max()
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-6 * scale)

    script(tmp_path, "b", "b", "--weights", "random")  # so the statistics of b are kept
    done = [
        script(tmp_path, "a", "b", "--weights", "random", "--breeds", start=start) for start in ((), TWO_PROCESSES)
    ]
    tables = [re.findall(r"^\|.*|^\(.*", result.stdout, re.MULTILINE) for result in done]
    assert len(tables[0]) == 5 and tables[0] == tables[1]
    assert distance_of(done[0].stdout) == pytest.approx(distance_of(done[1].stdout), abs=1e-4)
    assert done[1].stderr.count("5 and 4 pictures: the fewer") == 1


def test_a_picture_that_only_one_process_can_t_read_ends_them_all(tmp_path):
    write(tmp_path / "a", random_pictures(0, 4))
    (tmp_path / "a/002.png").write_bytes(b"no picture")
    done = script(tmp_path, "a", "a", "--weights", "random", start=TWO_PROCESSES)
    assert done.returncode != 0 and "fid.py: a/002.png: can't be read as a picture" in done.stderr


@pytest.mark.parametrize(("device", "processes"), [("cuda:1", "2"), ("cuda", "3")])
def test_each_process_needs_a_gpu_of_its_own(monkeypatch, device, processes):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(fid.UserError, match="a GPU of its own, here 1 to 2 of them"):
        data.join_processes(device)


def test_a_tensor_on_the_device_gives_the_numbers_of_its_files(tmp_path):
    network, pictures = Colours(), random_pictures(0, 9)
    files = fid.folder_statistics(write(tmp_path / "a", pictures), network)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    tensor = fid.collect([network(images[:5]), network(images[5:])], network)
    for name in ("mu", "sigma", "count"):
        np.testing.assert_allclose(files[name], tensor[name], rtol=0, atol=1e-6)


def test_all_kinds_of_pictures_in_sub_folders_of_any_size_are_seen_as_rgb(tmp_path):
    folder = tmp_path / "mixed"
    for place, mode in enumerate(("RGB", "L", "P", "RGBA", "LA", "CMYK", "1")):
        picture = Image.new("RGB", (10 + place, 20), "white").convert(mode)
        names = {"CMYK": ["a.jpg", "b.tif"], "RGB": ["a.JPEG", "b.webp", "c.bmp", "d.tif", "e.ppm"], "L": ["a.pgm"]}
        for name in names.get(mode, ["a.png"]):
            path = folder / mode / "deeper" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    (folder / "notes.txt").write_text("no picture")
    network = Colours()
    found = fid.folder_statistics(folder, network)
    assert found["count"] == network.seen == 12
    white = network(torch.ones(1, 3, 8, 8))[0]
    np.testing.assert_allclose(found["mu"], white, atol=0.05)  # jpg and webp are lossy
    assert np.abs(found["sigma"]).max() < 0.01


def test_mixed_sizes_give_the_features_that_each_picture_has_alone(inception):
    pictures = [
        torch.from_numpy(p).permute(2, 0, 1) for p in (random_pictures(0, 1)[0], random_pictures(1, 1, 9, 30)[0])
    ]
    together = inception(fid.to_batch(pictures, "cpu"))
    alone = torch.cat([inception(fid.to_batch([picture], "cpu")) for picture in pictures])
    assert (together - alone).abs().max() < 1e-4


# The cache ----------------------------------------------------------------------------------------------------


def test_cached_statistics_are_used_and_never_stale(tmp_path, monkeypatch):
    folder = write(tmp_path / "real", random_pictures(0, 4))

    def looks(**changes):
        """How many pictures a network looks at to make the statistics."""
        network = Colours()
        for name, value in changes.items():
            setattr(network, name, value)
        fid.folder_statistics(folder, network)
        return network.seen

    assert (looks(), looks()) == (4, 0)
    assert (looks(weights="others"), looks()) == (4, 4)
    assert looks() == 0
    write(folder, random_pictures(9, 1), "new{}.png")
    assert (looks(), looks()) == (5, 0)
    (folder / "new0.png").rename(folder / "old0.png")
    assert (looks(), looks()) == (5, 0)
    status = (folder / "000.png").stat()
    os.utime(folder / "000.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert (looks(), looks()) == (5, 0)
    (folder / "000.png").unlink()
    assert (looks(), looks()) == (4, 0)
    (tmp_path / "real.fid.npz").write_bytes(b"PK broken")
    assert (looks(), looks()) == (4, 0)
    monkeypatch.setattr(fid.PIL, "__version__", "1.0")  # another decoder
    assert (looks(), looks()) == (4, 0)
    (tmp_path / "data.py").write_text("# reads pictures otherwise")
    monkeypatch.setattr(data, "__file__", str(tmp_path / "data.py"))
    assert (looks(), looks()) == (4, 0)


def test_no_cache_and_distortions_leave_no_file(tmp_path, command):
    a, b = write(tmp_path / "a", random_pictures(0, 4)), write(tmp_path / "b", random_pictures(1, 4))
    assert command(a, b, "--no-cache")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    command(a, b)
    before = (tmp_path / "b.fid.npz").read_bytes()
    command(a, b, "--distort", "blur")
    assert (tmp_path / "b.fid.npz").read_bytes() == before


def test_a_full_disk_is_named_and_costs_the_kept_statistics_but_not_the_distance(tmp_path, command, monkeypatch):
    def savez(file, **arrays):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", savez)
    a, b = write(tmp_path / "a", random_pictures(0, 4)), write(tmp_path / "b", random_pictures(1, 4))
    status, out, err = command(a, b)
    assert status == 0 and distance_of(out) > 0 and "a.fid.npz: statistics can't be written (No space left" in err
    status, _, err = command("--save-stats", a, tmp_path / "a.npz", "--no-cache")
    assert status == 2 and "a.npz: statistics can't be written (No space left" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


# Files of statistics ------------------------------------------------------------------------------------------


def test_saved_statistics_stand_for_the_folder_and_read_as_pytorch_fids(tmp_path, command):
    a, b = write(tmp_path / "a", random_pictures(0, 4)), write(tmp_path / "b", random_pictures(1, 4))
    status, out, _ = command("--save-stats", a, tmp_path / "a.npz")
    assert status == 0 and "a.npz: statistics of 4 pictures" in out
    folder = distance_of(command(a, b)[1])
    assert distance_of(command(tmp_path / "a.npz", b)[1]) == folder
    with np.load(tmp_path / "a.npz") as file:  # as pytorch-fid does
        mu, sigma = file["mu"][:], file["sigma"][:]
    assert (mu.shape, sigma.shape, mu.dtype, sigma.dtype) == ((2048,), (2048, 2048), np.float64, np.float64)
    np.savez(tmp_path / "theirs.npz", mu=mu, sigma=sigma)
    _, out, _ = command(tmp_path / "theirs.npz", b)
    assert distance_of(out) == folder and "theirs.npz: an unknown number of pictures" in out


def test_statistics_of_different_networks_are_not_compared(tmp_path, command):
    a = write(tmp_path / "a", random_pictures(0, 4))
    command("--save-stats", a, tmp_path / "trained.npz")
    command("--save-stats", a, tmp_path / "random.npz", "--weights", "random")
    for pair in ((tmp_path / "trained.npz", tmp_path / "random.npz"), (a, tmp_path / "random.npz")):
        status, out, err = command(*pair)
        assert status == 2 and "random" in err and "FID:" not in out
    assert "random.npz was made with weights random: use the same" in command(a, tmp_path / "random.npz")[2]
    status, _, err = command(tmp_path / "trained.npz", a, "--precision", "bf16")
    assert status == 2 and "bf16" in err
    mu, sigma = np.zeros(2048), np.eye(2048)
    np.savez(tmp_path / "theirs.npz", mu=mu, sigma=sigma)  # pytorch-fid's don't tell, but are of trained weights
    assert command(tmp_path / "theirs.npz", a, "--weights", "random")[0] == 2
    assert command(tmp_path / "theirs.npz", a, "--precision", "bf16")[0] == 2
    assert command(tmp_path / "theirs.npz", tmp_path / "random.npz")[0] == 2
    assert command(tmp_path / "theirs.npz", tmp_path / "trained.npz")[1].splitlines()[-1].startswith("FID: ")
    out = command(tmp_path / "random.npz", tmp_path / "random.npz")[1]  # remembered without the network
    assert out.splitlines()[-1] == f"{fid.UNTRAINED}: 0.0000"


# Every output of an untrained network says so -----------------------------------------------------------------


@pytest.mark.parametrize("option", [(), ("--breeds",), ("--distort", "mirror"), ("--distort", "all")])
def test_an_untrained_distance_is_never_called_fid(tmp_path, command, monkeypatch, option):
    monkeypatch.setattr(fid, "DISTORTIONS", {name: fid.DISTORTIONS[name] for name in ("swap", "mirror", "flip")})
    a, b = (write(tmp_path / name, random_pictures(seed, 3), "n1_{}.png") for seed, name in enumerate("ab"))
    status, out, _ = command(a, b, "--weights", "random", *option)
    assert status == 0 and out.startswith("Inception has random weights: the distances below are not FID")
    assert "FID:" not in out and fid.UNTRAINED in out
    if option == ("--breeds",):
        assert "untrained Inception" in out


# Mistakes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mistakes(tmp_path, monkeypatch):
    """A working folder full of them, and one good folder of pictures."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("good", 3), ("one", 1), ("bad", 2)):
        write(tmp_path / name, random_pictures(0, count))
    (tmp_path / "empty").mkdir()
    Path("bad/broken.png").write_bytes(Path("bad/000.png").read_bytes()[:100])
    eye, zero = np.eye(2048), np.zeros(2048)
    np.savez("dims64.npz", mu=np.zeros(64), sigma=np.eye(64))
    np.savez("nan.npz", mu=zero, sigma=eye * np.nan)
    np.savez("lame.npz", mu=zero, sigma=eye + np.triu(eye[::-1]))
    np.savez("negative.npz", mu=zero, sigma=-eye)
    np.savez("other.npz", pictures=eye)
    Path("text.npz").write_text("no statistics")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nix good", "nix: no such folder"),
        ("good empty", "empty: no pictures"),
        ("good one", "one: one picture has no covariance"),
        ("good bad", "broken.png: can't be read as a picture"),
        ("dims64.npz good", r"dims64.npz: mu is \(64,\) and sigma \(64, 64\), not \(2048,\)"),
        ("good nan.npz", "nan.npz: mu or sigma holds values that aren't finite"),
        ("good lame.npz", "lame.npz: sigma isn't a covariance"),
        ("good negative.npz", "negative.npz: sigma isn't a covariance"),
        ("good other.npz", "other.npz: no statistics to read there"),
        ("good text.npz", "text.npz: no statistics to read there"),
        ("good nix.npz", "nix.npz: no statistics to read there"),
        ("good good --distort fog", "--distort fog: not one of all, blur"),
        ("good good --distort blur=much", "--distort blur=much: .*'much'"),
        ("good good --distort rectangles=1.5", "rectangles=1.5: 1.5 is not between 0 and 1"),
        ("good good --distort swap=2", "swap .* has no amount"),
        ("good good --distort shuffle=17", "16x16 pixels can't be cut into 17x17"),
        ("good nan.npz --distort blur", "--distort changes pictures"),
        ("nan.npz good --breeds", "--breeds takes two folders"),
        ("good good --breeds", "don't tell breeds"),
        ("--save-stats good x", "the name of an .npz"),
        ("--save-stats good nan.npz", "nan.npz is there already"),
        ("--save-stats good nix/real.npz", "nix: no such folder"),
        ("good good --batch 0", "--batch: 0 is not between 1 and 100000"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(mistakes, command, arguments, words):
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if not path.name.endswith(".fid.npz")}
    status, out, err = command(*arguments.split())
    assert status == 2 and "FID:" not in out
    err = "".join(line for line in err.splitlines(keepends=True) if " a second" not in line)
    assert err.count("\n") == 1 and re.search(words, err)
    assert before == {p: p.stat().st_mtime_ns for p in Path().rglob("*") if not p.name.endswith(".fid.npz")}


# Distortions --------------------------------------------------------------------------------------------------


def distort(name, amount=None, picture=None, seed=0):
    if picture is None:
        picture = np.random.default_rng(1).random((12, 16, 3))
    before = picture.copy()
    after = fid.DISTORTIONS[name][0](picture, amount, np.random.default_rng(seed))
    assert after.shape == before.shape and (picture == before).all()  # the original is left alone
    return before, np.array(after)


def test_blur_keeps_the_mean_and_spreads_a_point_into_a_gaussian():
    point = np.zeros((41, 41, 3))
    point[20, 20] = 1
    _, after = distort("blur", 2.0, point)
    assert after.sum() == pytest.approx(3)
    spread = (after[..., 0].sum(0) * (np.arange(41) - 20) ** 2).sum()
    assert spread == pytest.approx(4, rel=0.01)  # the variance
    assert after[20, 22, 0] / after[20, 20, 0] == pytest.approx(np.exp(-0.5), rel=0.01)


def test_noise_has_the_standard_deviation_asked_for():
    before, after = distort("noise", 0.1, np.full((200, 200, 3), 0.5))
    assert (after - before).std() == pytest.approx(0.1, rel=0.02) and abs((after - before).mean()) < 0.001


def test_salt_and_pepper_hits_its_share_of_pixels_half_black_half_white():
    before, after = distort("salt-and-pepper", 0.2, np.full((300, 300, 3), 0.5))
    assert (after == 0).all(2).mean() == pytest.approx(0.1, rel=0.1)
    assert (after == 1).all(2).mean() == pytest.approx(0.1, rel=0.1)
    assert (after == before).all(2).mean() == pytest.approx(0.8, rel=0.02)


def test_five_rectangles_of_the_picture_s_shape_are_black():
    before, after = distort("rectangles", 0.25, np.ones((64, 32, 3)))
    black = (after == 0).all(2)
    assert 16 * 8 <= black.sum() <= 5 * 16 * 8 and (after[~black] == before[~black]).all()
    one = next(y for y in range(64) if black[y].any())
    assert black[one : one + 16].any(1).all()  # the topmost is 16 high
    assert (distort("rectangles", 1.0)[1] == 0).all() and (distort("rectangles", 0.0)[1] > 0).any()


def test_colour_goes_from_blue_to_red():
    before, after = distort("colour", 0.25)
    np.testing.assert_allclose(after - before, np.broadcast_to([0.25, 0, -0.25], before.shape))


@pytest.mark.parametrize(("name", "amount"), [("shuffle", 4), ("swap", None), ("flip", None), ("mirror", None)])
def test_spatial_distortions_keep_every_pixel(name, amount):
    before, after = distort(name, amount)
    assert (before != after).any()
    assert Counter(map(tuple, before.reshape(-1, 3))) == Counter(map(tuple, after.reshape(-1, 3)))


def test_shuffle_moves_whole_tiles():
    ramp = np.broadcast_to(np.arange(12.0)[:, None, None] * 100 + np.arange(16.0)[None, :, None], (12, 16, 3)).copy()
    _, after = distort("shuffle", 4, ramp)
    tiles = after[..., 0].reshape(4, 3, 4, 4).transpose(0, 2, 1, 3).reshape(16, 3, 4)
    inside = tiles - tiles[:, :1, :1]
    assert (inside == inside[0]).all()  # each tile as it was
    corners = {(y * 300.0 + x * 4.0) for y in range(4) for x in range(4)}
    assert set(tiles[:, 0, 0]) == corners  # each once
    assert (distort("shuffle", 1)[0] == distort("shuffle", 1)[1]).all()


def test_swap_flip_and_mirror_put_known_pixels_in_known_places():
    before, after = distort("swap")
    assert (after[:, :8] == before[:, 8:]).all() and (after[:, 8:] == before[:, :8]).all()
    before, after = distort("flip")
    assert (after[0] == before[11]).all() and (after[3] == before[8]).all()
    before, after = distort("mirror")
    assert (after[:, 0] == before[:, 15]).all() and (after[:, 5] == before[:, 10]).all()


def test_a_picture_s_distortion_depends_on_the_seed_and_its_place_alone(tmp_path, command):
    a, b = write(tmp_path / "a", random_pictures(0, 5)), write(tmp_path / "b", random_pictures(0, 5))
    noisy = [distance_of(command(a, b, "--distort", "noise=0.3", "--batch", n)[1]) for n in (1, 5)]
    assert noisy[0] == pytest.approx(noisy[1], abs=2e-4) and noisy[0] > 0
    assert distance_of(command(a, b, "--distort", "noise=0.3", "--seed", "1")[1]) != noisy[0]
    one, other = (fid.read_picture((place, a / "000.png"), ("noise", 0.3), 0) for place in (0, 1))
    assert (one != other).any()


def test_the_second_folder_is_distorted_and_the_table_has_every_strength(tmp_path, command):
    dark, light = (write(tmp_path / n, random_pictures(0, 3) // 4 + v) for n, v in (("dark", 0), ("light", 180)))
    reds = distance_of(command(dark, light, "--distort", "colour=0.2")[1])
    assert reds != distance_of(command(light, dark, "--distort", "colour=0.2")[1])
    status, out, _ = command(dark, light, "--distort", "all")
    rows = dict(line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| "))
    assert status == 0 and float(rows["colour=0.2"]) == reds
    assert float(rows["nothing"]) == distance_of(command(dark, light)[1])
    strengths = sum(len(strengths) for _, _, strengths, _ in fid.DISTORTIONS.values())
    assert len(rows) == strengths + 3  # with the heading, its line, and "nothing"


# Breeds -------------------------------------------------------------------------------------------------------


def test_the_nearest_neighbour_is_the_one_of_the_smallest_angle():
    real = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    away, index = fid.nearest(torch.tensor([[5.0, 0.1], [1.0, 1.1], [0.0, 0.5]]), real, chunk=2)
    assert index.tolist() == [0, 2, 1]
    cosines = torch.tensor([5 / 25.01**0.5, 2.1 / (2 * 2.21) ** 0.5, 1.0])
    torch.testing.assert_close(away, 1 - cosines, rtol=0, atol=1e-6)
    away, index = fid.nearest(real, real, leave_out_self=True, chunk=2)
    assert index.tolist()[:2] == [2, 2] and index[2] != 2  # which is in the second chunk
    assert away[0].item() == pytest.approx(1 - 0.5**0.5, abs=1e-6)


def test_the_effective_number_of_breeds():
    assert fid.effective_number(list("abcdabcd")) == pytest.approx(4)
    assert fid.effective_number(["a"] * 9) == 1
    assert 1 < fid.effective_number(list("aaaaaab")) < 2


def test_a_collapsed_memorising_generator_is_seen_through(tmp_path, command):
    real = random_pictures(0, 12)
    for index, picture in enumerate(real):
        write(tmp_path / "real", [picture], f"n{index % 3}_{index}_0.png")
    write(tmp_path / "fake", [real[4]] * 5)  # a copy, again and again, of a dog of breed n1
    status, out, _ = command(tmp_path / "real", tmp_path / "fake", "--breeds")
    fakes = next(line for line in out.splitlines() if line.startswith("| fakes"))
    assert status == 0 and fakes == "| fakes | 1 of 3 | 1.0 | 0.0000 |"
    among = next(line for line in out.splitlines() if line.startswith("| real crops")).split(" | ")
    assert float(among[3].strip(" |")) > 0
