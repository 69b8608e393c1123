"""The page draws torch's pictures and shows torch's attention, in Chromium, opened from the disk."""

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time

import pytest
import torch

import look
from common import UserError
from model import Generator
from sample import attention_maps
from snapshots import PRETRAINED, generate, latents, load_generator

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """Headless Chromium.  It is told what to do through its file descriptor 3 and answers on 4, in JSON."""

    def __init__(self, profile):
        (told, self.tell), (self.answers, answer) = os.pipe(), os.pipe()
        ends = os.dup(told), os.dup(answer)  # never 3 or 4 themselves, which the pipes above may be
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=lambda: [os.dup2(end, number) for end, number in zip(ends, (3, 4), strict=True)],
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (told, answer, *ends):
            os.close(end)
        self.session, self.count, self.read, self.requests = {}, 0, b"", []
        target = next(each for each in self("Target.getTargets")["targetInfos"] if each["type"] == "page")
        self.session = {
            "sessionId": self("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        }
        self("Network.enable")

    def __call__(self, method, **params):
        self.count, end = self.count + 1, time.monotonic() + 120
        os.write(
            self.tell,
            json.dumps({"id": self.count, "method": method, "params": params, **self.session}).encode() + b"\0",
        )
        while True:
            while b"\0" not in self.read:
                assert select.select([self.answers], [], [], end - time.monotonic())[0], f"no answer to {method}"
                self.read += os.read(self.answers, 2**20)
            message, _, self.read = self.read.partition(b"\0")
            message = json.loads(message)
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == self.count:
                return message["result"]

    def js(self, expression):
        """The value of an expression in the page, or of what it promises."""
        result = self("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def drawn(self):
        """Wait until the page has drawn what it was asked to."""
        self.js(
            "new Promise(done => { const look = () => document.readyState === 'complete' && "
            "document.body.ariaBusy === 'false' ? done() : setTimeout(look, 20); look(); })"
        )

    def open(self, path, address=""):
        self("Page.navigate", url="about:blank")  # else a new address alone would not load the page again
        self("Page.navigate", url=path.as_uri() + address)
        self.drawn()

    def mouse(self, element, x, y, *kinds):
        left, top = self.js(f"(({{x, y}}) => [x, y])($('{element}').getBoundingClientRect())")
        for kind in kinds:
            button = "none" if kind == "mouseMoved" else "left"
            self("Input.dispatchMouseEvent", type=kind, x=left + x, y=top + y, button=button, clickCount=1)

    def key(self, key, **text):
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=key, **(text if kind == "keyDown" else {}))

    def type_number(self, text):
        self.js("$('seed').select()")
        for letter in text:
            self.key(letter, text=letter)
        if not text:
            self.key("Delete", windowsVirtualKeyCode=46)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.tell)
        os.close(self.answers)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("no Chromium")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def write(tmp_path):
    """A function that writes the page of some generators: write(*generators, int8=True) -> path."""

    def write(*generators, int8=True):
        path = tmp_path / "look.html"
        packed = [look.pack(generator, step, int8) for step, generator in enumerate(generators, 1)]
        path.write_text(look.page(packed), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def pretrained_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("pretrained") / "look.html"
    path.write_text(look.page([look.pack(*load_generator(PRETRAINED))]), encoding="utf-8")
    return path


def lively(size, attention_at, seed=0):
    """A small generator that has what training gives: a gamma, batch norm's statistics, pictures that vary."""
    torch.manual_seed(seed)
    generator = Generator(size, 8, attention_at)
    for norm in (layer for layer in generator.modules() if isinstance(layer, torch.nn.BatchNorm2d)):
        norm.momentum = 1
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_()
    for layer in generator.attention.values():
        layer.gamma.data.fill_(-0.5)
        layer.query.weight.data *= 9  # else it would look at all places nearly alike
    generator.to_rgb.weight.data *= 4
    generator.train()(latents(1, 64))
    return generator.eval()


def pixels(numbers):
    """What the page has for a canvas, red, green, blue, 255 for each pixel -> (3, N) as torch's picture, flattened."""
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 4)[:, :3].T


def shown(browser, key):
    return browser.js(f"document.querySelector('[data-say={key}]').textContent").replace("\u00a0", " ")


def shown_number(browser, key):
    """A number that the page writes as 1,520 or as 3.63 %."""
    return float(re.sub(",| %", "", shown(browser, key)))


# The forward pass ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "attention_at"), [(32, (8,)), (32, ()), (64, (16, 32)), (64, (4,)), (128, (16,))])
def test_with_float_weights_the_page_draws_torchs_pictures_and_maps(browser, write, size, attention_at):
    generator = lively(size, attention_at)
    browser.open(write(generator, int8=False))
    learned = {r: layer.gamma.item() for r, layer in generator.attention.items()}
    for z in latents(2, 2):
        browser.js(f"window.kept = [unpack(snapshots[0]), {z.tolist()}, {{}}]")
        # Each gamma goes on from the maps of the one before, as when a reader moves the slider.
        for times in (1, 0.3, 1.4, 0):
            for r, gamma in learned.items():
                generator.attention[r].gamma.data.fill_(times * gamma)
            picture, maps = attention_maps(generator, z[None])
            assert picture.float().std() > 20
            got = browser.js(f"[...generate(kept[0], kept[1], {times}, kept[2])]")
            assert (pixels(got) - picture[0].flatten(1)).abs().max() <= 1
            for r, attention in maps.items():
                for place in (0, int(r) + 2):
                    browser.js(f"kept.map = kept[2][{r}]")
                    row = browser.js(f"[...softmax(scores(rowOf(kept.map.query, {place}, {r} ** 2), kept.map.key))]")
                    assert attention[0, place].max() > 2 / len(row)
                    torch.testing.assert_close(torch.tensor(row), attention[0, place], atol=1e-3, rtol=0)


def test_the_pretrained_page_is_at_most_4_mb_and_its_int8_dogs_are_off_by_less_than_1_of_255(browser, pretrained_page):
    assert pretrained_page.stat().st_size <= 4e6
    dogs = generate(load_generator(PRETRAINED)[0], latents(0, 64)).flatten(2)
    for seed in (3, 64):  # counted from 1, as in the grid of `python sample.py`
        browser.open(pretrained_page, f"#seed={seed}")
        difference = pixels(browser.js("[...dog.pixels]")) - dogs[seed - 1]
        assert difference.abs().mean() < 1


def test_further_dogs_are_drawn_from_normal_z_each_its_own(browser, write):
    browser.open(write(lively(32, ())))
    z = torch.tensor(browser.js("Array.from({length: 1000}, (_, i) => [...latent(65 + i)])"))  # (1000, 128)
    assert z.mean().abs() < 0.01 and abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.1  # the fourth moment of a normal variable
    assert (z[1:] * z[:-1]).mean().abs() < 0.01 and (z[:, 1:] * z[:, :-1]).mean().abs() < 0.01


def test_the_slider_goes_from_one_dog_to_the_next(browser, write):
    browser.open(write(lively(32, ())), "#seed=5")
    z = browser.js("[0, 0.5, 1].map(t => [...between(latent(5), latent(6), t)])")
    torch.testing.assert_close(torch.tensor(z)[[0, 2]], latents(0, 6)[4:])
    assert (
        0.9 < torch.tensor(z[1]).norm() / latents(0, 6)[4:].norm(dim=1).mean() < 1.1
    )  # halfway it is as long as they


def test_while_the_slider_is_dragged_each_finished_dog_is_shown_at_once(browser, write):
    browser.open(write(lively(32, ())), "#seed=5")
    assert browser.js(
        "new Promise(done => { const receive = worker.onmessage, old = $('dog').toDataURL(); "
        "worker.onmessage = event => { receive(event); done(busy && $('dog').toDataURL() !== old); }; "
        "for (const t of [0.4, 0.8]) { $('next').value = t; $('next').oninput(); } })"
    )


# What the reader sees -----------------------------------------------------------------------------------------


def test_the_middle_of_the_first_dog_looks_where_the_readme_says(browser, pretrained_page):
    # The address counts rows and columns from 0, as Python does, and the words on the page from 1.
    browser.open(pretrained_page, "#seed=1&at=16,16")
    assert "row 17, column 17, looks most at the orange place, row 20, column 16" in shown(browser, "where")


def test_the_numbers_of_the_page_are_the_formula(browser, pretrained_page):
    browser.open(pretrained_page, "#seed=8&at=20,12")
    numbers = re.findall(r"-?\d+\.\d\d", browser.js("$('match').textContent"))  # three rows
    query, key, product = torch.tensor([float(number) for number in numbers]).view(3, -1)
    assert len(product) == 8
    torch.testing.assert_close(query * key, product, atol=0.03, rtol=0)
    score, exp = shown_number(browser, "score"), shown_number(browser, "exp")
    assert score == pytest.approx(product.sum().item(), abs=0.05)
    assert exp == pytest.approx(torch.tensor(score).exp().item(), rel=0.01)
    assert shown_number(browser, "share") == pytest.approx(100 * exp / shown_number(browser, "sum"), rel=0.01)


def test_scores_too_large_for_exp_are_shared_as_well(browser, write):
    browser.open(write(lively(32, (8,))))
    row = browser.js("[...softmax(new Float64Array([1000, 999, 0, 0]))]")
    torch.testing.assert_close(torch.tensor(row), torch.tensor([1000.0, 999.0, 0.0, 0.0]).softmax(0))


def test_clicks_arrows_and_the_mouse_choose_places_and_the_address_keeps_them(browser, pretrained_page):
    browser.open(pretrained_page, "#seed=8&at=20,12")

    def mouse(row, column, *kinds):
        cell = browser.js("$('dog').clientWidth / 32")
        browser.mouse("dog", (column + 0.5) * cell, (row + 0.5) * cell, *kinds)

    mouse(3, 4, "mousePressed", "mouseReleased")
    assert "row 4, column 5, looks most" in shown(browser, "where")
    query = "document.querySelector('#match .query path').getAttribute('d')"
    bars = browser.js(query)
    mouse(9, 5, "mouseMoved")
    assert bars.count("h") == 2 * 8 and browser.js(query) == bars  # another key is met by the same query
    assert "row 4, column 5, looks at the orange place, row 10, column 6" in shown(browser, "where")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        browser.key(key)
    assert "row 5, column 7, looks most" in shown(browser, "where")
    browser.js("$('orange').click(); $('dog').focus()")
    browser.key("ArrowUp")
    chosen = shown(browser, "where")
    assert "row 5, column 7, looks at" in chosen
    mouse(20, 20, "mouseMoved")
    assert "orange place, row 21, column 21" in shown(browser, "where")
    mouse(-1, 0, "mouseMoved")
    assert shown(browser, "where") == chosen
    assert browser.js("location.hash") == "#seed=8&at=4,6"
    browser.js("$('orange').click()")
    assert "row 5, column 7, looks most" in shown(browser, "where")


@pytest.mark.parametrize(("typed", "seed"), [("42", 42), ("0", 8), ("", 8), ("-3", 1), ("7.5", 7)])
def test_a_number_that_was_typed_is_drawn_at_enter_and_the_field_always_tells_the_dog(browser, write, typed, seed):
    browser.open(write(lively(32, ())), "#seed=8")
    browser.type_number(typed)
    browser.key("Enter", text="\r")
    browser.drawn()
    assert browser.js("[seed, +$('seed').value]") == [seed, seed]


def test_new_dog_draws_the_number_that_was_typed_or_else_a_random_one(browser, write):
    browser.open(write(lively(32, ())), "#seed=8")
    browser.type_number("42")
    browser.mouse("new", 5, 5, "mousePressed", "mouseReleased")
    browser.drawn()
    assert browser.js("[seed, $('seed').value]") == [42, "42"]
    browser.mouse("new", 5, 5, "mousePressed", "mouseReleased")
    browser.drawn()
    assert browser.js("seed") >= 65


@pytest.fixture
def wide(browser, request):
    """The width of the window in pixels, set for one test."""
    browser("Emulation.setDeviceMetricsOverride", width=request.param, height=844, deviceScaleFactor=1, mobile=False)
    yield request.param
    browser("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("wide", [390], indirect=True)
@pytest.mark.parametrize("times", [100, -100])
def test_on_a_phone_the_largest_and_smallest_exp_fit_in_their_box(browser, wide, write, times):
    generator = lively(32, (8,))
    generator.attention["8"].query.weight.data *= times
    browser.open(write(generator, int8=False), "#seed=3")
    browser.js("$('orange').click()")
    for place in range(64):
        browser.js(f"choose({place})")
        assert browser.js("document.documentElement.scrollWidth") <= wide
        assert browser.js("document.querySelector('table').scrollWidth <= $('match').clientWidth")


@pytest.mark.parametrize("wide", [390, 1280], indirect=True)
def test_the_slider_stays_under_the_mouse_as_its_words_change(browser, wide, pretrained_page):
    browser.open(pretrained_page)
    ends = set()
    for value in (0, 0.05, 1, 1.5):
        browser.js(f"$('gamma').value = {value}; $('gamma').oninput()")
        browser.drawn()
        ends.add(tuple(browser.js("(({x, y, right}) => [x, y, right])($('gamma').getBoundingClientRect())")))
    assert len(ends) == 1


def test_gamma_and_training_change_the_dog_and_no_request_leaves_the_page(browser, write):
    generators = [lively(32, (8,), seed) for seed in (0, 1)]
    browser.requests.clear()
    browser.open(write(*generators, int8=False), "#seed=2")
    z = latents(0, 2)[1:]
    for snapshot, times in ((1, 1), (1, 0), (0, 0)):
        for slider, value in (("snapshot", snapshot), ("gamma", times)):
            browser.js(f"$('{slider}').value = {value}; $('{slider}').oninput()")
        browser.drawn()
        generators[snapshot].attention["8"].gamma.data.fill_(-0.5 * times)
        picture = generate(generators[snapshot], z)[0].flatten(1)
        assert (pixels(browser.js("[...dog.pixels]")) - picture).abs().max() <= 1
        assert shown(browser, "step") == str(snapshot + 1)
        assert shown(browser, "times") == f"{100 * times} %"
    browser.js("$('new').click()")
    browser.drawn()
    assert shown(browser, "times") == "0 %"  # gamma stays what the reader chose
    assert browser.requests and all(re.match("file:|blob:|about:", url) for url in browser.requests)


def test_a_generator_without_attention_shows_the_dog_and_says_so(browser, write):
    browser.open(write(lively(32, ())))
    text = browser.js("document.body.innerText")
    assert "without attention" in text and "From z to the dog" in text
    assert "Gamma" not in text and "query" not in text
    assert browser.js("$('path').children.length") == 5  # 4, 8, 16, 32 and the dog


def test_of_several_layers_one_is_chosen(browser, write):
    browser.open(write(lively(64, (16, 32))), "#at=20,12")
    assert shown(browser, "size").startswith("32")
    browser.js("$('layer').value = 16; $('layer').onchange()")
    browser.drawn()
    assert shown(browser, "size").startswith("16") and "row 9, column 9" in shown(browser, "where")


# The script ---------------------------------------------------------------------------------------------------


def test_snapshots_are_spread_over_the_training_and_the_newest_is_among_them():
    milestones = [500, 1000, 2500, 5000, 10000, 15000, 20000, 24000, 30000]
    assert look.over_training(milestones) == [500, 1000, 2500, 5000, 15000, 30000]
    assert look.over_training([7]) == [7]


def test_a_run_becomes_one_file_in_its_folder_and_a_mistake_writes_none(ten_steps, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(ten_steps, tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["look.py", str(run)])
    look.main()
    assert capsys.readouterr().out.startswith(f"{run / 'look.html'}: 0.")
    data = re.search("snapshots} = (.*);</script>", (run / "look.html").read_text(encoding="utf-8"))[1]
    assert [snapshot["step"] for snapshot in json.loads(data)["snapshots"]] == [4, 8, 10]
    monkeypatch.setattr(sys, "argv", ["look.py", str(tmp_path), "--out", str(tmp_path / "none.html")])
    with pytest.raises(UserError, match=f"{tmp_path}: no snapshots there"):
        look.main()
    assert not (tmp_path / "none.html").exists()
