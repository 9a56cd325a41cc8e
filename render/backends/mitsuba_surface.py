"""Mitsuba plugins of our own: the opaque material and the lens.

The material is the pair of lobes that Cycles builds from its Diffuse, Glossy and Fresnel nodes; stock
``principled`` (Disney 2012, separable masking) differs from any Cycles node by several per cent.
Import after a variant is set, then call `register` once.
"""

# Mitsuba's stubs describe one variant and clash with its own overrides.
# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false
from __future__ import annotations

import math
from typing import Any

import drjit as dr
import mitsuba as mi
import numpy as np

from focuspull.render.backends import mitsuba_lens
from focuspull.render.build import MIN_ALPHA
from focuspull.render.spec import LensSpec

MAX_TURNS = 256
"""Lens points that `ShapedLens` tries for a ray; a lens that lets 5 % pass fails one ray in 500 000."""


class Surface(mi.BSDF):
    """``(1-m) * ((1-F) base/pi + F GGX) + m base GGX``, two-sided.

    F is the dielectric Fresnel reflectance (``ior``) at the angle of view, GGX has single scattering and
    height-correlated Smith masking (Heitz 2014, eq. 99), alpha = roughness^2.

    Parameters: ``base_color`` and ``roughness`` (textures), ``metallic``, ``ior`` (floats).
    """

    def __init__(self, props: mi.Properties) -> None:
        mi.BSDF.__init__(self, props)
        self.base_color = props.get_texture("base_color")
        self.roughness = props.get_texture("roughness")
        self.metallic = float(props["metallic"])
        self.ior = float(props["ior"])
        sides = mi.BSDFFlags.FrontSide | mi.BSDFFlags.BackSide
        self.m_components = [mi.BSDFFlags.DiffuseReflection | sides, mi.BSDFFlags.GlossyReflection | sides]
        self.m_flags = self.m_components[0] | self.m_components[1]

    def _lobes(self, si, wi, active):
        """Weights of the diffuse and the glossy lobe, the chance to sample the latter, its microfacets."""
        base = self.base_color.eval(si, active)
        fresnel = mi.fresnel(mi.Frame3f.cos_theta(wi), self.ior)[0]
        diffuse = base * ((1 - self.metallic) * (1 - fresnel))
        glossy = base * self.metallic + mi.Color3f((1 - self.metallic) * fresnel)
        diffuse_luminance, glossy_luminance = mi.luminance(diffuse), mi.luminance(glossy)
        chance = glossy_luminance / dr.maximum(diffuse_luminance + glossy_luminance, 1e-8)
        alpha = dr.clip(dr.square(self.roughness.eval_1(si, active)), MIN_ALPHA, 1)
        return diffuse, glossy, chance, mi.MicrofacetDistribution(mi.MicrofacetType.GGX, alpha, True)

    @staticmethod
    def _to_front(side, v):
        return mi.Vector3f(v.x, v.y, v.z * side)

    def sample(self, ctx, si, sample1, sample2, active=True):
        side = dr.mulsign(mi.Float(1), mi.Frame3f.cos_theta(si.wi))
        wi = self._to_front(side, si.wi)
        _, _, chance, microfacets = self._lobes(si, wi, active)
        is_glossy = sample1 < chance
        normal, _ = microfacets.sample(wi, sample2)
        wo = dr.select(is_glossy, mi.reflect(wi, normal), mi.warp.square_to_cosine_hemisphere(sample2))
        bs = mi.BSDFSample3f()
        bs.wo = self._to_front(side, wo)
        bs.eta = 1.0
        glossy, diffuse = (
            mi.UInt32(+mi.BSDFFlags.GlossyReflection),
            mi.UInt32(+mi.BSDFFlags.DiffuseReflection),
        )
        bs.sampled_type = dr.select(is_glossy, glossy, diffuse)
        bs.sampled_component = dr.select(is_glossy, mi.UInt32(1), mi.UInt32(0))
        value, bs.pdf = self.eval_pdf(ctx, si, bs.wo, active)
        return bs, dr.select(active & (bs.pdf > 0), value * dr.rcp(dr.maximum(bs.pdf, 1e-20)), 0)

    def eval_pdf(self, ctx, si, wo, active=True):
        side = dr.mulsign(mi.Float(1), mi.Frame3f.cos_theta(si.wi))
        wi, wo = self._to_front(side, si.wi), self._to_front(side, wo)
        cos_i, cos_o = mi.Frame3f.cos_theta(wi), mi.Frame3f.cos_theta(wo)
        active = active & (cos_i > 0) & (cos_o > 0)
        diffuse, glossy, chance, microfacets = self._lobes(si, wi, active)
        half = dr.normalize(wi + wo)
        density = microfacets.eval(half)
        visible_i = dr.maximum(microfacets.smith_g1(wi, half), 1e-6)
        visible_o = dr.maximum(microfacets.smith_g1(wo, half), 1e-6)
        masking = dr.rcp(dr.rcp(visible_i) + dr.rcp(visible_o) - 1)
        value = diffuse * (cos_o * dr.inv_pi) + glossy * (
            density * masking * dr.rcp(4 * dr.maximum(cos_i, 1e-6))
        )
        pdf_glossy = microfacets.pdf(wi, half) * dr.rcp(4 * dr.maximum(dr.dot(wo, half), 1e-6))
        pdf = dr.lerp(cos_o * dr.inv_pi, pdf_glossy, chance)
        return dr.select(active, value, 0), dr.select(active, pdf, 0)

    def eval(self, ctx, si, wo, active=True):
        return self.eval_pdf(ctx, si, wo, active)[0]

    def pdf(self, ctx, si, wo, active=True):
        return self.eval_pdf(ctx, si, wo, active)[1]

    def eval_diffuse_reflectance(self, si, active=True):
        """What the denoiser takes as albedo; for metals too."""
        return self.base_color.eval(si, active)

    def traverse(self, callback):
        callback.put("base_color", self.base_color, mi.ParamFlags.Differentiable)
        callback.put("roughness", self.roughness, mi.ParamFlags.Differentiable)

    def to_string(self):
        return f"FocuspullSurface[metallic={self.metallic}, ior={self.ior}]"


class ShapedLens(mi.Sensor):
    """Any lens of `spec.LensSpec`; geometry as Mitsuba's ``thinlens``.

    Parameters: ``aperture_radius`` (of the disc of equal area), ``focus_distance``, ``disparity_scale``
    (inverse distance per unit of disparity), ``fov`` (horizontal, degrees), ``lens`` (JSON), ``to_world``,
    film, sampler.
    """

    def __init__(self, props: mi.Properties) -> None:
        mi.Sensor.__init__(self, props)
        self.m_needs_sample_2 = False
        self.m_needs_sample_3 = True
        self.radius = float(props["aperture_radius"])
        self.focus = float(props["focus_distance"])
        self.scale = float(props["disparity_scale"])
        self.lens = LensSpec.model_validate_json(props["lens"])
        self.half_width = float(np.tan(np.radians(float(props["fov"])) / 2))

    def needs_aperture_sample(self):
        return True

    def _outline_point(self, sample):
        """Uniform over the outline, or over a disc around rounded blades; see `mitsuba_lens`."""
        lens = self.lens
        if not lens.has_corners:
            p = mi.warp.square_to_uniform_disk_concentric(sample)
        elif lens.roundness > 0:
            p = mi.warp.square_to_uniform_disk_concentric(sample) * mitsuba_lens.circumradius(lens)
        else:
            rotation, step = math.radians(lens.rotation_deg), 2 * np.pi / lens.blades
            side = dr.floor(sample.x * lens.blades)
            edge = sample.x * lens.blades - side
            reach = dr.sqrt(sample.y) * mitsuba_lens.circumradius(lens)
            a, b = side * step + rotation, (side + 1) * step + rotation
            p = mi.Point2f(
                reach * dr.lerp(dr.cos(a), dr.cos(b), edge), reach * dr.lerp(dr.sin(a), dr.sin(b), edge)
            )
        stretch = math.sqrt(lens.squeeze)
        return mi.Point2f(p.x / stretch, p.y * stretch)

    def _lens_point(self, sample, at):
        """A lens point, spread as the lens's reference is for this film point, and the weight over it.

        The light of such points needs no further division, so exposure comes out right without anybody
        knowing the open area. Points are drawn until one is accepted: the first is ``sample`` and so
        stratified, the others follow from its bits.
        """
        if self.lens.is_native_in_cycles:  # nothing within the outline is dark
            return self._outline_point(sample), mi.Float(1)

        def is_searching(turn, first, second, sample, p, weight):
            return (turn < MAX_TURNS) & (weight < 0)

        def search(turn, first, second, sample, p, weight):
            p = self._outline_point(sample)
            passed, reference = mitsuba_lens.transmission(self.lens, p, at)
            first, second = mi.sample_tea_32(first, second)
            weight = dr.select(_unit(first) < reference, passed / dr.maximum(reference, 1e-20), weight)
            first, second = mi.sample_tea_32(first, second)
            return turn + 1, first, second, mi.Point2f(_unit(first), _unit(second)), p, weight

        start = (mi.UInt32(0), *_bits(sample), mi.Point2f(sample), mi.Point2f(0), mi.Float(-1))
        *_, p, weight = dr.while_loop(start, is_searching, search)
        return p, dr.maximum(weight, 0)

    def sample_ray(self, time, wavelength_sample, position_sample, aperture_sample, active=True):
        size = self.film().crop_size()
        aspect = size.y / size.x
        # Mitsuba's camera looks along +z with +x to the left.
        x = (1 - 2 * position_sample.x) * self.half_width
        y = (1 - 2 * position_sample.y) * self.half_width * aspect
        corner = self.half_width * math.hypot(1, aspect)
        picture, weight = self._lens_point(aperture_sample, mi.Point2f(-x / corner, y / corner))
        # A point in front of the focus is shifted away from the lens point that sees it, and there the
        # spec wants the picture of the aperture upright: so the lens point is minus the picture's point.
        lens = picture * self.radius
        origin = mi.Point3f(lens.x, -lens.y, 0)
        shifts = mitsuba_lens.focus_shift(self.lens, picture)
        color = mi.Color3f(weight)
        if shifts is None:
            direction = mi.Vector3f(mi.Point3f(x, y, 1) * self.focus - origin)
        else:
            shift = shifts[1]
            if self.lens.axial_chromatic != 0:  # a ray is of one colour
                first, second = _bits(aperture_sample)
                channel = mi.UInt32(3 * _unit(mi.sample_tea_32(second, first)[1]))
                shift = dr.select(channel == 0, shifts[0], dr.select(channel == 1, shift, shifts[2]))
                color = mi.Color3f(*(dr.select(channel == i, 3 * weight, 0) for i in range(3)))
            # The inverse distance in focus may be negative: such rays meet behind the lens.
            direction = mi.Vector3f(x, y, 1) - mi.Vector3f(origin) * (1 / self.focus + self.scale * shift)
        to_world = self.world_transform()
        ray = mi.Ray3f()
        ray.time = time
        ray.wavelengths = []
        ray.o = to_world @ origin
        ray.d = to_world @ dr.normalize(direction)
        return ray, color

    def sample_ray_differential(self, time, wavelength_sample, position_sample, aperture_sample, active=True):
        ray, weight = self.sample_ray(time, wavelength_sample, position_sample, aperture_sample, active)
        result = mi.RayDifferential3f(ray)
        result.o_x = result.o_y = ray.o
        result.d_x = result.d_y = ray.d
        result.has_differentials = False
        return result, weight

    def bbox(self):
        return mi.ScalarBoundingBox3f()

    def to_string(self):
        return f"FocuspullLens[{self.lens.label}]"


def _bits(sample) -> Any:
    """The two numbers of a sample in 32 bits each."""
    return mi.UInt32(sample.x * 2.0**32), mi.UInt32(sample.y * 2.0**32)


def _unit(bits):
    """32 random bits as a number in [0, 1)."""
    return mi.Float(bits >> 8) * 2.0**-24


def register() -> None:
    """Makes the plugins known to Mitsuba as ``focuspull_surface`` and ``focuspull_lens``."""
    mi.register_bsdf("focuspull_surface", Surface)
    mi.register_sensor("focuspull_lens", ShapedLens)
