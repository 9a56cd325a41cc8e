"""The viewer: one page that needs nothing else, is exact to the last bit, and runs no code but its own."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import json
import os
import re
import select
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from focuspull.dataset import codec, viewer
from focuspull.dataset.clip import Clip, ClipMeta, encode_clip
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import write_index
from focuspull.dataset.viewer import write_viewer

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><!--<script>&amp;\u2028'"
BROWSER = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
VOID = {"meta", "img", "input", "br", "link", "hr"}


class _Page(HTMLParser):
    """A parsed page: ids to text and attributes, and every tag that occurs."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text: dict[str, str] = {}
        self.attributes: dict[str, dict[str, str | None]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[tuple[str, str | None]] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if name := attributes.get("id"):
            self.attributes[name] = attributes
            self.text[name] = ""
        if tag not in VOID:
            self._open.append((tag, name))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for name in {name for _, name in self._open if name}:
            self.text[name] += data

    def json(self, name: str) -> Any:
        return json.loads(self.text[name])


def _write(corpus: Path, out: Path, **options: Any) -> _Page:
    write_viewer(corpus, out, **{"max_clips": 24, **options})
    return _Page(out.read_text(encoding="utf-8"))


def _unpack(text: str, grid: dict[str, int]) -> np.ndarray:
    """A grid from the page, written again after the description in the module."""
    high, low = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(
        2, grid["height"], grid["width"]
    )
    zigzag = high.astype(np.int64) * 256 + low
    residual = np.where(zigzag % 2 == 0, zigzag // 2, -(zigzag + 1) // 2)
    return (residual.cumsum(0).cumsum(1) % 65536).astype(np.uint16)


def _picture(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


def _stored(clip: Clip, name: str) -> np.ndarray:
    """A stored 16-bit member as integers, or a stored picture as RGB."""
    content = dict(clip.members)[name]
    if name.startswith("disparity"):
        return np.round(codec.decode_disparity(content).astype(np.float64) * 65535).astype(np.uint16)
    return codec.decode_instance(content) if name.startswith("instance") else codec.decode_rgb(content)


def _clip_with(meta: ClipMeta, make_arrays: Callable[[ClipMeta], dict[str, Any]], **changes: Any) -> Clip:
    meta = ClipMeta.model_validate(meta.model_dump() | changes)
    return encode_clip(meta, **make_arrays(meta))


@pytest.fixture
def page(corpus: Path, tmp_path: Path) -> _Page:
    return _write(corpus, tmp_path / "page.html")


@pytest.fixture
def hostile_corpus(
    tmp_path: Path, make_meta: Callable[..., ClipMeta], make_arrays: Any, publish: Any
) -> Path:
    """Every free string of the metadata tries to leave its place."""
    meta = make_meta()
    target = meta.targets[0].model_dump() | {"lens_label": HOSTILE, "lens": {HOSTILE: HOSTILE}}
    renderer = dict.fromkeys(("backend", "backend_version", "variant", "focuspull_version"), HOSTILE)
    scene = {"family": HOSTILE, "description": HOSTILE}
    clip = _clip_with(
        meta,
        make_arrays,
        targets=[target, meta.targets[1].model_dump()],
        instances={HOSTILE: 1},
        renderer=renderer,
        scene=scene,
    )
    folder = tmp_path / "a&<b>'"
    publish(folder, "train-000000", [clip])
    return folder


# The page


def test_the_page_has_every_clip_frame_and_stream(page: _Page):
    clips = page.json("document")["clips"]
    assert [clip["key"] for clip in clips] == ["clip-000000", "clip-000001", "clip-000002"]
    for index in range(3):
        streams = page.json(f"payload-{index}")
        assert set(streams) == {"aif", "bokeh0", "bokeh1", "disparity", "instance"}
        assert {len(frames) for frames in streams.values()} == {3}


def test_the_page_asks_for_nothing_outside_itself(corpus: Path, tmp_path: Path):
    page = _write(corpus, tmp_path / "page.html")
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    addresses = set(re.findall(r"\w+://[^\s\"'<>]+", content))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of SVG; nothing is fetched from there


def test_the_policy_lets_only_the_scripts_and_styles_of_the_page_run(corpus: Path, tmp_path: Path):
    page = _write(corpus, tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    (policy,) = (a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("script", "style"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", content, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_pictures_disparity_and_ids_are_the_stored_ones(
    tmp_path: Path, make_clip: Callable[..., Clip], publish: Any
):
    clip = make_clip(width=41, height=30, num_frames=2)
    publish(tmp_path, "train-000000", [clip])
    page = _write(tmp_path, tmp_path / "page.html")
    (facts,) = page.json("document")["clips"]
    assert page.json("document")["detail"]["lossless"]
    assert facts["grid"] == {"step": 1, "width": 41, "height": 30}
    streams = page.json("payload-0")
    for frame in range(2):
        for name in ("aif", "bokeh0", "bokeh1"):
            np.testing.assert_array_equal(
                _picture(streams[name][frame]), _stored(clip, f"{name}.{frame:03d}.png")
            )
        for name in ("disparity", "instance"):
            np.testing.assert_array_equal(
                _unpack(streams[name][frame], facts["grid"]), _stored(clip, f"{name}.{frame:03d}.png")
            )


def test_any_grid_survives_its_packing():
    rng = np.random.default_rng(1)
    for shape in ((1, 1), (1, 7), (9, 1), (13, 17)):
        grid = rng.integers(0, 65536, shape).astype(np.uint16)
        size = {"height": shape[0], "width": shape[1]}
        np.testing.assert_array_equal(_unpack(base64.b64encode(viewer._pack_grid(grid)).decode(), size), grid)


def test_a_smaller_budget_gives_smaller_pictures_then_fewer_frames(
    tmp_path: Path, make_clip: Callable[..., Clip], publish: Any
):
    clip = make_clip(width=500, height=300, num_frames=4, k_at_1024=(16.0,))
    publish(tmp_path, "train-000000", [clip])
    found = []
    for budget in (3_000_000, 260_000, 190_000, 110_000):
        page = _write(tmp_path, tmp_path / "page.html", budget_bytes=budget)
        assert (tmp_path / "page.html").stat().st_size <= budget
        document = page.json("document")
        (facts,) = document["clips"]
        found.append((document["detail"]["lossless"], facts["picture"]["width"], len(facts["frames"])))
        streams = page.json("payload-0")
        assert {len(frames) for frames in streams.values()} == {len(facts["frames"])}
        size = (facts["picture"]["height"], facts["picture"]["width"], 3)
        step, frame = facts["grid"]["step"], facts["frames"][-1]
        assert _picture(streams["bokeh0"][-1]).shape == size
        assert step == -(-500 // facts["picture"]["width"])
        rows, columns = (viewer._sample_positions(length, step) for length in (300, 500))
        np.testing.assert_array_equal(
            _unpack(streams["disparity"][-1], facts["grid"]),
            _stored(clip, f"disparity.{frame:03d}.png")[np.ix_(rows, columns)],
        )
        assert len(facts["targets"][0]["k"]) == len(facts["frames"])
    lossless, widths, frames = zip(*found, strict=True)
    assert lossless == (True, False, False, False)
    assert list(widths) == sorted(widths, reverse=True) and widths[0] == 500 and widths[-1] == 240
    assert frames[0] == 4 and frames[-1] < 4


def test_clips_that_never_fit_are_the_users_mistake(corpus: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"3 clips do not fit 20000 bytes .* Show fewer clips\.$"):
        write_viewer(corpus, tmp_path / "page.html", max_clips=3, budget_bytes=20_000)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("length", [1, 2, 5, 12, 13])
@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_every_pixel_has_a_sample_less_than_a_step_away(length: int, step: int):
    positions = viewer._sample_positions(length, step)
    pixels = np.arange(length)
    assert np.abs(positions[pixels // step] - pixels).max() < step
    assert np.unique(positions).size == positions.size


def test_the_same_corpus_gives_the_same_bytes(corpus: Path, tmp_path: Path):
    for name in ("one.html", "two.html"):
        write_viewer(corpus, tmp_path / name, max_clips=24)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_max_clips_limits_the_clips_but_not_the_histograms(corpus: Path, tmp_path: Path):
    document = _write(corpus, tmp_path / "page.html", max_clips=2).json("document")
    assert [clip["key"] for clip in document["clips"]] == ["clip-000000", "clip-000002"]
    assert document["corpus"]["num_clips"] == 3
    k, focus, depth, *_ = document["charts"]
    assert (k["num_corpus"], k["num_shown"]) == (6, 4)
    assert sum(k["corpus"]) == 6 and k["corpus"][0] == 3 and k["corpus"][-1] == 3
    assert focus["corpus"] == [6] * 20  # every target pulls from near to far
    assert depth["infinite"] and depth["corpus"] == [3] * 21


def test_provenance_is_complete(page: _Page):
    clip = page.json("document")["clips"][2]
    assert clip["shard"] == "val-000000.tar" and clip["split"] == "val"
    assert clip["renderer"] == {
        "backend": "discs", "backend_version": "1.0", "variant": "cpu", "focuspull_version": "0.1.0"
    }  # fmt: skip
    assert clip["method"] == "separate"
    assert clip["aif"] == {"samples": 64.0, "noise_floor_db": 45.0}
    assert [target["noise_floor_db"] for target in clip["targets"]] == [40.0, 41.0]
    assert clip["scene_sha256"] == hashlib.sha256(b"clip-000002").hexdigest()
    assert clip["spec_sha256"] == hashlib.sha256(b"the corpus specification").hexdigest()


def test_strings_of_the_metadata_stay_strings(hostile_corpus: Path, tmp_path: Path):
    page = _write(hostile_corpus, tmp_path / "page.html")
    assert [tag for tag, _ in page.tags if tag in {"img", "b"}] == []
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    document = page.json("document")
    (clip,) = document["clips"]
    assert document["corpus"]["name"] == "a&<b>'"
    assert clip["instances"] == {"1": HOSTILE} and clip["targets"][0]["lens_label"] == HOSTILE
    assert clip["renderer"]["backend"] == HOSTILE
    assert "a&<b>'" in (tmp_path / "page.html").read_text(encoding="utf-8").replace("&amp;", "&").replace(
        "&lt;", "<"
    ).replace("&gt;", ">").replace("&#x27;", "'")


def test_the_script_cannot_end_or_comment_itself_out():
    script = (Path(viewer.__file__).parent / "templates" / "viewer.js").read_text(encoding="utf-8")
    for forbidden in ("</", "<!--", "innerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in script


# Motion and histograms


def _moving(meta: ClipMeta, second: list[list[float]]) -> ClipMeta:
    first = np.eye(4).tolist()
    camera = meta.camera.model_dump() | {"camera_to_world": [first, second]}
    return ClipMeta.model_validate(meta.model_dump() | {"camera": camera})


def test_camera_motion_is_the_shift_of_the_plane_that_is_seen(make_meta: Callable[..., ClipMeta]):
    meta = make_meta(width=64, height=48, num_frames=2)
    sideways = np.eye(4)
    sideways[0, 3] = 0.02
    plane = np.full((48, 64), 0.25, np.float32)  # 4 m away: the corpus maps 1 m to 1 and infinity to 0
    shift = 50 / 36 * 1024 * 0.02 / 4
    assert viewer._camera_motion_px(_moving(meta, sideways.tolist()), plane, 0) == pytest.approx(shift)
    # The sky does not move with the camera's place, but with its direction.
    assert viewer._camera_motion_px(_moving(meta, sideways.tolist()), 0 * plane, 0) == pytest.approx(0)
    roll = np.eye(4)
    roll[:2, :2] = [[0, -1], [1, 0]]
    y, x = np.mgrid[0:48:4, 0:64:4] + 0.5
    expected = np.hypot(x - 32, y - 24).mean() * 2**0.5 * 1024 / 64
    assert viewer._camera_motion_px(_moving(meta, roll.tolist()), 0 * plane, 0) == pytest.approx(expected)


def test_image_motion_is_the_shift_of_the_picture():
    rng = np.random.default_rng(2)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (140, 260)).astype(np.float32), (0, 0), 3)
    noise = cv2.normalize(noise, noise, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    before, after = noise[2:-2, 2:-2], noise[2:-2, :-4]  # the content moves right by 2 of 256 pixels
    assert viewer._image_motion_px(before, after) == pytest.approx(2 * 4, rel=0.1)


def test_counts_are_of_the_bins_that_a_range_touches():
    edges = [0.0, 1.0, 2.0, 3.0]
    assert viewer._counts([(0.5, 0.5), (0.5, 1.5), (3.0, 3.0), (-1.0, 9.0)], edges) == [3, 2, 2]
    assert viewer._counts([], edges) == [0, 0, 0]


@pytest.mark.parametrize("top", [0.0, 0.37, 1.0, 38.2, 12345.0])
def test_edges_reach_the_largest_value(top: float):
    edges = viewer._linear_edges([(0.0, top)])
    assert len(edges) == 21 and edges[0] == 0
    assert top <= edges[-1] * (1 + 1e-9) <= max(1.1 * top, 1.0) * (1 + 1e-9)


# Mistakes


def test_damaged_corpus_leaves_no_page(corpus: Path, tmp_path: Path):
    os.truncate(corpus / "val-000000.tar", 3000)
    with pytest.raises(UserError, match=r"val-000000\.tar: is truncated"):
        write_viewer(corpus, tmp_path / "out" / "page.html", max_clips=24)
    assert list(tmp_path.glob("out/*")) == []


def test_corpus_without_clips_is_the_users_mistake(tmp_path: Path):
    write_index(tmp_path, [])
    with pytest.raises(UserError, match="has no clips to show. Make some with"):
        write_viewer(tmp_path, tmp_path / "page.html", max_clips=24)


# In a browser


def _pipe() -> list[int]:
    """A pipe above descriptors 3 and 4, on which the browser wants to be spoken to."""
    low = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low]
    for end in low:
        os.close(end)
    return high


class _Browser:
    """Headless Chromium, driven through the pipes of its DevTools protocol, without a package for it."""

    def __init__(self, profile: Path) -> None:
        assert BROWSER is not None
        (from_us, self._write), (self._read, to_us) = _pipe(), _pipe()

        def connect() -> None:
            os.dup2(from_us, 3)
            os.dup2(to_us, 4)

        self._process = subprocess.Popen(
            [
                BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
            ],
            preexec_fn=connect, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(from_us)
        os.close(to_us)
        self._received = b""
        self._count = 0
        self._session: str | None = None

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; its answer. Events in between are dropped."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session and not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            while b"\0" not in self._received:
                ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
                assert ready, f"no answer to {method}"
                chunk = os.read(self._read, 1 << 20)
                assert chunk, f"the browser ended during {method}"
                self._received += chunk
            text, self._received = self._received.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, html: Path, address: str = "", size: tuple[int, int] = (1440, 900)) -> None:
        """Load a page into a new tab and wait until it has drawn."""
        if self._session:
            self.call("Page.close")
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0], height=size[1], deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.call("Page.enable")
        self.call("Page.navigate", url=html.as_uri() + address)
        self.settle()

    def settle(self) -> None:
        """Wait until the page has drawn its state and written its address."""
        deadline = time.monotonic() + 60
        state = "busy"
        while state == "busy":
            assert time.monotonic() < deadline, "the page stays busy"
            time.sleep(0.05)
            state = self.evaluate(
                "location.protocol === 'file:' && document.readyState === 'complete'"
                " ? document.documentElement.dataset.state : 'busy'"
            )
        assert state == "ready", self.text("error")
        self.evaluate("new Promise((done) => setTimeout(done, 350))")

    def text(self, name: str) -> str:
        return self.evaluate(f"document.getElementById({json.dumps(name)}).textContent")

    def hidden(self, name: str) -> bool:
        return self.evaluate(f"document.getElementById({json.dumps(name)}).hidden")

    def count(self, selector: str) -> int:
        return self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")

    def press(self, key: str, *, shift: bool = False) -> None:
        """A real key, to whatever has the focus."""
        text = {"text": key} if len(key) == 1 else {}
        modifiers = 8 if shift else 0
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, modifiers=modifiers, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers)
        self.settle()

    def mouse(self, selector: str, x: float, y: float, *kinds: str, clicks: int = 1) -> None:
        """Real mouse events at a place of an element, as shares of its size."""
        left, top, width, height = self.evaluate(
            f"(({{x, y, width, height}}) => [x, y, width, height])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        for kind in kinds:
            self.call(
                "Input.dispatchMouseEvent",
                type=kind, x=left + x * width, y=top + y * height,
                button="left" if kind != "mouseMoved" else "none", clickCount=clicks,
            )  # fmt: skip
        self.settle()

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        self.mouse(selector, x, y, "mousePressed", "mouseReleased")

    def slide(self, name: str, value: float) -> None:
        self.evaluate(
            f"((slider) => {{ slider.value = {value}; slider.dispatchEvent(new Event('input')); }})"
            f"(document.getElementById({json.dumps(name)}))"
        )
        self.settle()

    def address(self) -> str:
        return self.evaluate("decodeURIComponent(location.hash)")

    def screenshot(self) -> np.ndarray:
        content = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Browser]:
    if BROWSER is None:
        pytest.skip("no chromium or google-chrome on PATH")
    browser = _Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def html(corpus: Path, tmp_path: Path) -> Path:
    write_viewer(corpus, tmp_path / "page.html", max_clips=24)
    return tmp_path / "page.html"


def _contains(picture: np.ndarray, part: np.ndarray) -> bool:
    """Whether a picture occurs in another exactly; candidates are where a pixel from its middle is."""
    height, width, _ = part.shape
    y, x = height // 2, width // 2
    inner = picture[y : picture.shape[0] - height + y + 1, x : picture.shape[1] - width + x + 1]
    starts = np.argwhere((inner == part[y, x]).all(-1))
    return any((picture[top : top + height, left : left + width] == part).all() for top, left in starts)


def test_overview_has_a_card_per_clip_and_all_histograms(html: Path, browser: _Browser):
    browser.open(html)
    links = browser.evaluate("[...document.querySelectorAll('a.card')].map((card) => card.hash)")
    assert links == [f"#clip=clip-00000{index}" for index in range(3)]
    assert browser.count("figure.chart") == 6
    assert "3 clips" in browser.text("corpus-facts") and "train 2, val 1" in browser.text("corpus-facts")
    assert browser.hidden("detail") and browser.hidden("error")


@pytest.mark.parametrize("size", [(1440, 900), (900, 700), (390, 844)])
def test_nothing_is_wider_than_the_window(html: Path, browser: _Browser, size: tuple[int, int]):
    for address in ("", "#clip=clip-000000&view=difference&at=3,3", "#clip=clip-000000&view=split&k=1"):
        browser.open(html, address, size)
        assert browser.evaluate("document.documentElement.scrollWidth") <= size[0], address
        for button in ("#play", "#back"):
            if "clip" in address:
                assert (
                    browser.evaluate(f"document.querySelector('{button}').getBoundingClientRect().right")
                    < size[0]
                )


def test_address_opens_the_nearest_target_and_reads_exact_values(
    tmp_path: Path, make_clip: Callable[..., Clip], publish: Any, browser: _Browser
):
    # In frame 0 all focus on 1; the nearest K at 1024 to 70 is 60, bokeh2.
    clip = make_clip(width=96, height=64, k_at_1024=(0.0, 20.0, 60.0, 100.0))
    publish(tmp_path, "train-000000", [clip])
    write_viewer(tmp_path, tmp_path / "page.html", max_clips=1)
    browser.open(tmp_path / "page.html", "#clip=clip-000000&frame=0&view=coc&focus=0.6&k=70&at=60,20")
    assert browser.text("shown-name") == "bokeh2"
    assert browser.text("match-text") == "nearest to the sliders"
    assert browser.text("shown-k") == "60 (5.63 px)"
    assert browser.text("shown-focus") == "1 (1 m)"
    assert browser.text("focus-text") == "wished 0.6, shown 1"
    assert browser.text("k-text") == "wished 70, shown 60"
    assert "disc" in browser.text("shown-lens") and "linear_hdr" in browser.text("shown-lens")
    stored = int(_stored(clip, "disparity.000.png")[20, 60])
    depth_m, coc_px = 65535 / stored, 60 * 96 / 1024 * (1 - stored / 65535)
    readout = browser.text("readout")
    assert "60, 20" in readout
    assert f"{stored / 65535:.5f}  ({stored} / 65535)" in readout
    assert f"{coc_px:.2f} px, behind the focus" in readout
    assert f"{coc_px * 1024 / 96:.2f} px at 1024 px width" in readout
    assert f"{float(f'{depth_m:.4g}'):g} m" in readout
    assert "instancenone" in readout
    assert browser.count(".ticks i") == 8
    ticks = browser.evaluate("[...document.querySelectorAll('#k-ticks i')].map((tick) => tick.style.left)")
    assert ticks == ["0%", "20%", "60%", "100%"]
    assert browser.evaluate("document.querySelector('#k-ticks .on').style.left") == "60%"


def test_held_target_and_instance_name(html: Path, browser: _Browser):
    browser.open(html, "#clip=clip-000001&frame=1&target=bokeh1&at=12,8")
    assert browser.text("shown-name") == "bokeh1" and browser.text("match-text") == "held"
    assert "disc (1)" in browser.text("readout") and "0.00 px, in focus" in browser.text("readout")  # K is 0
    assert "pinhole" in browser.text("shown-lens")
    assert browser.text("clip-key") == "clip-000001" and "discs 1.0" in browser.text("provenance")
    assert "41.0 dB" in browser.text("noise")


def test_one_target_one_frame_and_no_blur_at_all(
    tmp_path: Path, make_clip: Callable[..., Clip], publish: Any, browser: _Browser
):
    publish(tmp_path, "train-000000", [make_clip(num_frames=1, k_at_1024=(0.0,))])
    write_viewer(tmp_path, tmp_path / "page.html", max_clips=1)
    for view in ("aif", "bokeh", "disparity", "difference", "coc", "split"):
        browser.open(tmp_path / "page.html", f"#clip=clip-000000&view={view}&focus=0.2&k=3&at=2,2")
        assert browser.text("shown-name") == "bokeh0" and "NaN" not in browser.text("detail")
    assert browser.evaluate("document.getElementById('play').disabled")


def test_unknown_clip_is_said(html: Path, browser: _Browser):
    browser.open(html, "#clip=%3Cb%3Enone")
    assert browser.text("error") == "There is no clip '<b>none' on this page."
    assert not browser.hidden("overview")


def test_pixels_reach_the_screen_unchanged(
    tmp_path: Path, make_clip: Callable[..., Clip], publish: Any, browser: _Browser
):
    clip = make_clip(width=160, height=90, num_frames=2, k_at_1024=(24.0,))
    publish(tmp_path, "train-000000", [clip])
    html = tmp_path / "page.html"
    write_viewer(tmp_path, html, max_clips=1)
    aif, bokeh = _stored(clip, "aif.001.png"), _stored(clip, "bokeh0.001.png")
    difference = np.abs(aif.astype(int) - bokeh).max(-1, keepdims=True) * 4
    disparity = np.round(_stored(clip, "disparity.001.png") / 65535 * 255).astype(np.uint8)
    views = {
        "aif": aif,
        "bokeh": bokeh,
        "difference&gain=4": np.repeat(difference.clip(0, 255), 3, -1),
        "disparity": cv2.applyColorMap(disparity, cv2.COLORMAP_TURBO)[..., ::-1],
        "split&wipe=0.5": np.concatenate([aif[:, :80], bokeh[:, 80:]], 1),
    }
    for view, expected in views.items():
        browser.open(html, f"#clip=clip-000000&frame=1&zoom=1&view={view}")
        screen = browser.screenshot()
        # Tags lie on the first rows, the divider of the split in the middle.
        parts = [expected[32:, :60], expected[32:, 100:]] if "split" in view else [expected[32:]]
        assert all(_contains(screen, part) for part in parts), view


def test_signed_coc_is_warm_in_front_and_cold_behind(html: Path, browser: _Browser):
    # The disc is at disparity 1, the wall behind it; in the middle frame the focus lies between them.
    browser.open(html, "#clip=clip-000000&frame=1&view=coc&target=bokeh0&zoom=4")
    red, _, blue = browser.evaluate(
        "[...document.getElementById('canvas').getContext('2d').getImageData(12, 8, 1, 1).data]"
    )[:3]
    assert red > blue + 50
    red, _, blue = browser.evaluate(
        "[...document.getElementById('canvas').getContext('2d').getImageData(1, 1, 1, 1).data]"
    )[:3]
    assert blue > red + 50


def test_hostile_names_run_nothing(hostile_corpus: Path, tmp_path: Path, browser: _Browser):
    write_viewer(hostile_corpus, tmp_path / "page.html", max_clips=1)
    for address in ("", "#clip=clip-000000&frame=1&at=12,8"):
        browser.open(tmp_path / "page.html", address)
        assert "owned" not in browser.evaluate("document.title")
        assert browser.count("[onerror]") == 0 and browser.count("script") == 3
    assert f"{HOSTILE} (1)" in browser.text("readout")
    assert HOSTILE in browser.text("provenance") and HOSTILE in browser.text("shown-lens")


def test_keys_change_the_state_and_the_address(html: Path, browser: _Browser):
    browser.open(html, "#clip=clip-000000")
    first = "#clip=clip-000000&frame"
    for key, address in {
        "ArrowRight": f"{first}=1&view=bokeh&target=bokeh0",
        "End": f"{first}=2&view=bokeh&target=bokeh0",
        "ArrowDown": f"{first}=2&view=bokeh&target=bokeh1",
        "h": f"{first}=2&view=bokeh&focus=0&k=0",
        "H": f"{first}=2&view=bokeh&target=bokeh1",
        "4": f"{first}=2&view=difference&target=bokeh1",
        "z": f"{first}=2&view=difference&target=bokeh1&zoom=1",
        "n": "#clip=clip-000001&frame=0&view=difference&target=bokeh0",
    }.items():
        browser.press(key)
        assert browser.address() == address
    browser.press("ArrowLeft", shift=True)
    assert browser.address().endswith("&at=11,8")
    browser.press("?")
    assert not browser.hidden("help")
    browser.press("Escape")
    assert browser.hidden("help") and not browser.hidden("detail")
    browser.press("Escape")
    assert browser.hidden("detail") and browser.address() == ""


def test_sliders_choose_among_the_targets(html: Path, browser: _Browser):
    browser.open(html, "#clip=clip-000000&frame=2&target=bokeh1")
    browser.slide("k", 80)
    assert browser.text("shown-name") == "bokeh0"
    assert browser.address() == "#clip=clip-000000&frame=2&view=bokeh&focus=0&k=80"
    browser.slide("k", 20)
    assert browser.text("shown-name") == "bokeh1"
    browser.click("#targets li:first-child button")
    assert browser.text("shown-name") == "bokeh0" and browser.text("match-text") == "held"


def test_mouse_reads_pins_focuses_and_wipes(html: Path, browser: _Browser):
    browser.open(html, "#clip=clip-000000&frame=0&target=bokeh0")
    browser.mouse("#sheet", 0.02, 0.03, "mouseMoved")
    assert "pixel0, 0" in browser.text("readout")
    browser.click("#sheet", 0.52, 0.53)
    assert browser.address().endswith("&at=12,8")
    browser.mouse("#sheet", 0.3, 0.5, "mousePressed", "mouseReleased", clicks=1)
    browser.mouse("#sheet", 0.3, 0.5, "mousePressed", "mouseReleased", clicks=2)
    assert browser.text("focus-text") == "1"  # the disc is there, and all targets focus on it
    assert browser.text("match-text") == "nearest to the sliders"
    browser.press("6")
    browser.click("#sheet", 0.25, 0.9)
    assert "wipe=0.25" in browser.address()


def test_playback_shows_every_frame_and_starts_again(html: Path, browser: _Browser):
    browser.open(html, "#clip=clip-000000&frame=1")
    seen = browser.evaluate(
        "new Promise((done) => {"
        " const seen = [];"
        " new MutationObserver(() => seen.push(document.getElementById('frame').value))"
        "   .observe(document.getElementById('frame-text'), {childList: true});"
        " document.getElementById('play').click();"
        " setTimeout(() => { document.getElementById('play').click(); done(seen); }, 1500);"
        "})"
    )
    assert set(seen) == {"0", "1", "2"}
    assert seen.count("0") > 1
    browser.settle()
    assert browser.text("play") == "▶ Play"
