"""What every weight-free renderer must do, and what only the better ones do.

Blur radius of a renderer: of the image of one bright pixel on a black plane of constant disparity,
``sqrt(2 <rho^2>)`` in light, which is the radius of the uniform disc with that second moment. For a
polygon and a bright rim it is divided by the same of the ideal aperture of radius 1 (by area) or of that
radius."""

import math

import pytest
import torch
from torch import Tensor

from focuspull.model.baselines.layers import coverage
from focuspull.model.baselines.lens import Lens, ladder, scatter, shares
from focuspull.model.baselines.oracle import LayerStack, OracleLayers
from focuspull.model.light import linear_to_srgb, srgb_to_linear
from focuspull.model.renderer import BokehRenderer, get_renderer, renderer_names

BLURRING = [name for name in renderer_names() if name != "identity"]
SCATTERING = [name for name in BLURRING if name != "gather"]
LAYERED = ["mpi-32", "mpi-32-fill", "mpi-coc", "layers"]
RADII = (1, 2, 4, 8, 16, 32)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def oracle(light: Tensor, disparity: Tensor, alpha: Tensor | None = None) -> OracleLayers:
    """Of one frame: layers ``[L, 3, H, W]`` of light and ``[L, 1, H, W]``."""
    alpha = torch.ones_like(disparity) if alpha is None else alpha
    return OracleLayers(LayerStack(light[None, None], alpha[None, None], disparity[None, None]))


def blur(
    renderer: BokehRenderer | str, light: Tensor, disparity: Tensor, k: float, focus: float = 0.0
) -> Tensor:
    """One frame of light ``[3, H, W]`` and disparity ``[H, W]``, back as light."""
    renderer = get_renderer(renderer) if isinstance(renderer, str) else renderer
    given = (linear_to_srgb(light)[None, None], disparity[None, None, None])
    per_frame = (torch.tensor([[k]]).to(light), torch.tensor([[focus]]).to(light))
    return srgb_to_linear(renderer(*given, *per_frame))[0, 0]


def point(side: int) -> Tensor:
    light = torch.zeros(3, side, side, dtype=torch.float64)
    light[:, side // 2, side // 2] = 1
    return light


def moment_radius(light: Tensor) -> float:
    offset = torch.arange(light.shape[-1]) - light.shape[-1] // 2
    rho2 = offset[:, None] ** 2 + offset**2
    return math.sqrt(2 * float((light[0] * rho2).sum() / light[0].sum()))


@pytest.mark.parametrize("side_of_focus", [1, -1])
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("name", [*BLURRING, "oracle-layers"])
def test_the_radius_is_k_times_the_distance_to_the_focus(name: str, radius: int, side_of_focus: int) -> None:
    # No disc that holds the point reaches the border, where renderers normalise by what is within the frame.
    side = 2 * (math.ceil(2.2 * radius) + 4) + 1
    light, disparity = point(side), torch.full((side, side), 0.5 + 0.25 * side_of_focus, dtype=torch.float64)
    renderer = oracle(light[None], disparity[None, None]) if name == "oracle-layers" else get_renderer(name)
    found = blur(renderer, light, disparity, 4.0 * radius, 0.5)
    measured = moment_radius(found)
    if name == "scatter-polygon":
        # Second moment of the regular polygon over that of the disc of equal area.
        n, turn = 6, 2 * math.pi / 6
        measured /= math.sqrt(2 * math.pi * (2 + math.cos(turn)) / (3 * n * math.sin(turn)))
    elif name == "scatter-ring":
        rho = torch.linspace(0, radius, 10001, dtype=torch.float64)
        profile = 0.75 + 0.25 * torch.tanh(0.2 * (1 + rho - radius))
        measured *= radius / math.sqrt(2 * float((rho**3 * profile).sum() / (rho * profile).sum()))
    assert abs(measured - radius) <= (0.3 if radius >= 2 else 0.5), measured


@pytest.mark.parametrize("radius", [2.3, 6.4, 10.9])
@pytest.mark.parametrize(("name", "tolerance"), [("mpi-32", 1.0), ("mpi-coc", 0.25), ("scatter", 0.0)])
def test_planes_round_the_radius_by_half_a_plane_at_most(name: str, tolerance: float, radius: float) -> None:
    light, disparity = point(51), torch.full((51, 51), radius / 64, dtype=torch.float64)
    assert abs(moment_radius(blur(name, light, disparity, 64.0)) - radius) <= 0.1 + tolerance


@pytest.mark.parametrize("name", [*BLURRING, "oracle-layers"])
@pytest.mark.parametrize("disparity", [1.0, 0.37])
def test_light_is_conserved(name: str, disparity: float) -> None:
    light, plane = point(65), torch.full((65, 65), disparity, dtype=torch.float64)
    renderer = oracle(light[None], plane[None, None]) if name == "oracle-layers" else get_renderer(name)
    assert float(blur(renderer, light, plane, 16.0, 0.1).sum()) == pytest.approx(3, abs=0.01)


def scene(height: int = 40, width: int = 56) -> tuple[Tensor, Tensor]:
    """Noise on a slanted plane with a nearer square on it; display values and disparity, [1, 1, ., H, W]."""
    aif = torch.rand(1, 1, 3, height, width, generator=torch.Generator().manual_seed(1))
    disparity = torch.linspace(0, 0.5, width).expand(height, width).clone()
    disparity[12:28, 20:36] = 0.9
    return aif, disparity[None, None, None]


@pytest.mark.parametrize("name", renderer_names())
def test_no_blur_is_the_identity(name: str) -> None:
    aif, disparity = scene()
    assert torch.equal(get_renderer(name)(aif, disparity, torch.zeros(1, 1), torch.full((1, 1), 0.3)), aif)


@pytest.mark.parametrize("name", renderer_names())
def test_a_plane_in_focus_is_unchanged(name: str) -> None:
    aif, _ = scene()
    plane = torch.full_like(aif[:, :, :1], 0.4)
    found = get_renderer(name)(aif, plane, torch.full((1, 1), 20.0), torch.full((1, 1), 0.4))
    assert float((found - aif).abs().max()) < 1e-4


@pytest.mark.parametrize("name", [*LAYERED, "gather"])
def test_a_subject_in_focus_is_unchanged_before_a_blurred_background(name: str) -> None:
    aif, _ = scene()
    disparity = torch.full((40, 56), 0.1)
    disparity[12:28, 20:36] = 0.8
    found = get_renderer(name)(
        aif, disparity[None, None, None], torch.tensor([[12.0]]), torch.tensor([[0.8]])
    )
    assert float((found - aif)[..., 12:28, 20:36].abs().max()) < 0.01
    assert float((found - aif)[..., :8, :].abs().max()) > 0.1


def test_plain_scatter_leaks_over_a_subject_in_focus() -> None:
    """Not wanted, but it is what the published formula does; `layers` is for that."""
    light, disparity = torch.zeros(3, 41, 41), torch.full((41, 41), 0.1)
    light[:, :, :20] = 1
    disparity[:, 20:] = 0.8
    assert float(blur("scatter", light, disparity, 12.0, 0.8)[0, 20, 20]) > 0.1
    assert float(blur("layers", light, disparity, 12.0, 0.8)[0, 20, 20]) < 0.01


@pytest.mark.parametrize("name", [*BLURRING, "oracle-layers"])
@pytest.mark.parametrize("focus", [0.0, 0.5, 1.0])
def test_a_gray_scene_stays_gray_up_to_the_border(name: str, focus: float) -> None:
    _, disparity = scene()
    light = torch.full((3, 40, 56), 0.4)
    renderer = oracle(light[None], disparity[0]) if name == "oracle-layers" else get_renderer(name)
    assert float((blur(renderer, light, disparity[0, 0, 0], 24.0, focus) - 0.4).abs().max()) < 1e-3


def foreground() -> tuple[Tensor, Tensor]:
    """A white square, near, on a black background that is in focus at disparity 0."""
    light, disparity = torch.zeros(3, 61, 61), torch.zeros(61, 61)
    light[:, 20:41, 20:41] = 1
    disparity[20:41, 20:41] = 0.8
    return light, disparity


@pytest.mark.parametrize("name", SCATTERING)
def test_a_blurred_foreground_spreads_over_a_sharp_background(name: str) -> None:
    light, disparity = foreground()
    row = blur(name, light, disparity, 10.0)[0, 30]
    assert 0.05 < float(row[17]) < 0.6
    assert float(row[:10].max()) < 1e-3


def test_gathering_ends_a_foreground_at_its_outline() -> None:
    light, disparity = foreground()
    assert float(blur("gather", light, disparity, 10.0)[0, 30, 17]) < 1e-3


@pytest.mark.parametrize("name", ["mpi-32-fill", "mpi-coc", "layers"])
def test_the_rim_of_a_foreground_shows_what_it_hides(name: str) -> None:
    """Half the lens sees past a straight edge, up to the one side and the other."""
    light, disparity = foreground()
    row = blur(name, light, disparity, 10.0)[0, 30]
    assert float(row[19] + row[20]) == pytest.approx(1, abs=0.15)
    assert float(row[30]) > 0.95


def test_a_true_hidden_background_is_seen_through_the_rim() -> None:
    light, near = foreground()
    layers = torch.stack([torch.ones_like(light), torch.zeros_like(light)])
    layers[1, 1] = 1
    alpha = torch.stack([(near > 0).float(), torch.ones_like(near)])[:, None]
    disparity = torch.stack([torch.full_like(near, 0.8), torch.zeros_like(near)])[:, None]
    # Given far to near: the order is that of the hits.
    found = blur(oracle(layers.flip(0), disparity.flip(0), alpha.flip(0)), light, near, 10.0)[:, 30]
    assert float(found[0, 19] + found[0, 20]) == pytest.approx(1, abs=0.02)
    assert float((found[1] - 1).abs().max()) < 1e-3


def test_rays_find_a_slanted_layer() -> None:
    """A tilted plane through a lens of points: each row is blurred with its own radius."""
    side, k = 81, 8.0
    disparity = torch.linspace(0, 1, side)[:, None].expand(side, side).contiguous()
    light = torch.zeros(3, side, side)
    light[:, :, 40] = 1
    found = blur(oracle(light[None], disparity[None, None]), light, disparity, k)[0]
    for row in (40, 60, 72):
        radius = k * row / (side - 1)
        offset = torch.arange(side) - 40
        width = 2 * math.sqrt(float((found[row] * offset**2).sum() / found[row].sum()))
        assert width == pytest.approx(radius, abs=0.35)


@pytest.mark.parametrize("name", renderer_names())
def test_clips_and_frames_do_not_know_each_other(name: str) -> None:
    aif, disparity = scene()
    aif = torch.cat([aif, aif.flip(-1)], 1).repeat(2, 1, 1, 1, 1)
    disparity = torch.cat([disparity, 1 - disparity], 1).repeat(2, 1, 1, 1, 1)
    k, focus = torch.tensor([[4.0, 9.0], [0.0, 6.0]]), torch.tensor([[0.2, 0.9], [0.5, 0.1]])
    render = get_renderer(name)
    together = render(aif, disparity, k, focus)
    for b in range(2):
        for t in range(2):
            one = (slice(b, b + 1), slice(t, t + 1))
            assert torch.equal(together[one], render(aif[one], disparity[one], k[one], focus[one]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", renderer_names())
def test_dtype_stays_and_input_is_not_touched(name: str, dtype: torch.dtype) -> None:
    aif, disparity = scene()
    aif = aif.to(dtype)
    before = aif.clone()
    found = get_renderer(name)(aif, disparity, torch.full((1, 1), 7.0), torch.full((1, 1), 0.3))
    assert found.dtype == dtype
    assert found.data_ptr() != aif.data_ptr()
    assert torch.equal(aif, before)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    exact = get_renderer(name)(aif.double(), disparity, torch.full((1, 1), 7.0), torch.full((1, 1), 0.3))
    assert float((found.double() - exact).abs().max()) < 2e-4 + 2 * torch.finfo(dtype).eps


@pytest.mark.gpu
@pytest.mark.parametrize("name", renderer_names())
def test_a_gpu_gives_what_the_cpu_does(name: str) -> None:
    aif, disparity = scene()
    given = (aif, disparity, torch.full((1, 1), 7.0), torch.full((1, 1), 0.3))
    found = get_renderer(name)(*(tensor.cuda() for tensor in given))
    assert found.is_cuda
    assert float((found.cpu() - get_renderer(name)(*given)).abs().max()) < 1e-3


@pytest.mark.parametrize("name", BLURRING)
def test_a_frame_smaller_than_the_lens_is_no_problem(name: str) -> None:
    aif, disparity = torch.rand(1, 1, 3, 5, 3), torch.rand(1, 1, 1, 5, 3)
    found = get_renderer(name)(aif, disparity, torch.full((1, 1), 40.0), torch.full((1, 1), 0.0))
    assert bool(found.isfinite().all())


# The lens


@pytest.mark.parametrize("lens", [Lens(), Lens(blades=5, rotation_deg=20), Lens(ring=0.4)])
def test_scatter_is_a_loop_over_all_pixels(lens: Lens) -> None:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(2, 9, 11, generator=generator, dtype=torch.float64)
    signed = 8 * torch.rand(9, 11, generator=generator, dtype=torch.float64) - 4
    expected = torch.zeros_like(image)
    radii = ladder(4.5)
    for y in range(9):
        for x in range(11):
            r = float(signed[y, x].abs())
            i = next(i for i in range(len(radii)) if radii[i + 1] >= r)
            t = (r**2 - radii[i] ** 2) / (radii[i + 1] ** 2 - radii[i] ** 2)
            for radius, share in ((radii[i], 1 - t), (radii[i + 1], t)):
                kernel = lens.kernel(radius, image) if radius else torch.ones(1, 1).to(image)
                if signed[y, x] < 0:
                    kernel = kernel.flip(0, 1)
                n = kernel.shape[0] // 2
                for dy in range(-n, n + 1):
                    for dx in range(-n, n + 1):
                        if 0 <= y + dy < 9 and 0 <= x + dx < 11:
                            expected[:, y + dy, x + dx] += share * kernel[dy + n, dx + n] * image[:, y, x]
    assert float((scatter(image, signed, lens) - expected).abs().max()) < 1e-12


def test_shares_keep_light_and_its_spread() -> None:
    signed = torch.linspace(-40, 40, 999, dtype=torch.float64)[None]
    parts = list(shares(signed, Lens(blades=3)))
    assert torch.allclose(
        sum((share for _, share in parts), torch.zeros_like(signed)), torch.ones_like(signed)
    )
    spread = sum((share * radius**2 for radius, share in parts), torch.zeros_like(signed))
    assert torch.allclose(spread, signed**2)


def test_a_triangle_is_upside_down_behind_the_focus() -> None:
    lens = Lens(blades=3, rotation_deg=90)
    render = get_renderer("scatter", lens=lens)
    front = blur(render, point(41), torch.full((41, 41), 1.0, dtype=torch.float64), 10.0, 0.0)
    behind = blur(render, point(41), torch.full((41, 41), 0.0, dtype=torch.float64), 10.0, 1.0)
    assert torch.allclose(front, behind.flip(1, 2), atol=1e-9)
    # The corner at 90 degrees is up, in front of the focus.
    rows = (front[0] > 0.3 * front[0].max()).nonzero()[:, 0]
    assert 20 - int(rows.min()) > int(rows.max()) - 20


def test_coverage_of_a_half_plane_is_half_at_its_edge() -> None:
    mask = torch.zeros(64, 64, dtype=torch.float64)
    mask[:, 32:] = 1
    found = coverage(mask, torch.full_like(mask, 8.0))
    assert float((found[:, 31] + found[:, 32] - 1).abs().max()) < 1e-6
    assert float((found[:, 45:] - 1).abs().max()) < 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blades": 2}, "blades: must be 0"),
        ({"ring": 0.6}, r"ring: must be in \[0, 0.5\], got 0.6"),
        ({"rotation_deg": math.nan}, "rotation_deg: must be finite"),
    ],
)
def test_an_impossible_lens_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lens(**options)  # pyright: ignore[reportArgumentType]


def test_a_stack_that_does_not_fit_is_refused() -> None:
    light, one = torch.ones(1, 1, 2, 3, 8, 8), torch.ones(1, 1, 2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"stack.alpha: must be in \[0, 1\], spans \[2, 2\]"):
        OracleLayers(LayerStack(light, 2 * one, one))
    with pytest.raises(ValueError, match="stack.disparity: must fit light"):
        OracleLayers(LayerStack(light, one, one[..., :7]))
    with pytest.raises(ValueError, match="stack.light: has values that are not finite"):
        OracleLayers(LayerStack(light * torch.nan, one, one))
    aif = torch.ones(1, 1, 3, 8, 9)
    with pytest.raises(ValueError, match=r"aif: \[1, 1, 3, 8, 9\] does not fit a stack of light"):
        OracleLayers(LayerStack(light, one, one))(aif, aif[:, :, :1], torch.ones(1, 1), torch.ones(1, 1))
