"""Mitsuba plugins of our own: the opaque material and the shaped aperture.

The material is the pair of lobes that Cycles builds from its Diffuse, Glossy and Fresnel nodes; stock
``principled`` (Disney 2012, separable masking) differs from any Cycles node by several per cent.
Import after a variant is set, then call `register` once.
"""

# Mitsuba's stubs describe one variant and clash with its own overrides.
# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false
from __future__ import annotations

import drjit as dr
import mitsuba as mi
import numpy as np

from focuspull.render.build import MIN_ALPHA


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
    """Thin lens with a polygonal or squeezed aperture; geometry as Mitsuba's ``thinlens``.

    Parameters: ``aperture_radius`` (of the disc of equal area), ``focus_distance``, ``fov`` (horizontal,
    degrees), ``blades`` (0: disc), ``rotation`` (radians), ``squeeze``, ``to_world``, film, sampler.
    """

    def __init__(self, props: mi.Properties) -> None:
        mi.Sensor.__init__(self, props)
        self.m_needs_sample_2 = False
        self.m_needs_sample_3 = True
        self.radius = float(props["aperture_radius"])
        self.focus = float(props["focus_distance"])
        self.blades = int(props["blades"])
        self.rotation = float(props["rotation"])
        self.squeeze = float(props["squeeze"])
        self.half_width = float(np.tan(np.radians(float(props["fov"])) / 2))

    def needs_aperture_sample(self):
        return True

    def _aperture_point(self, sample):
        """Uniform over the shape as points in front of the focus show it: metres, x to the right and y up."""
        if self.blades == 0:
            p = mi.warp.square_to_uniform_disk_concentric(sample)
        else:
            step = 2 * np.pi / self.blades
            circumradius = np.sqrt(2 * np.pi / (self.blades * np.sin(step)))
            side = dr.floor(sample.x * self.blades)
            edge = sample.x * self.blades - side
            reach = dr.sqrt(sample.y) * float(circumradius)
            a, b = side * step + self.rotation, (side + 1) * step + self.rotation
            p = mi.Point2f(
                reach * dr.lerp(dr.cos(a), dr.cos(b), edge), reach * dr.lerp(dr.sin(a), dr.sin(b), edge)
            )
        stretch = float(np.sqrt(self.squeeze))
        return mi.Point2f(p.x / stretch, p.y * stretch) * self.radius

    def sample_ray(self, time, wavelength_sample, position_sample, aperture_sample, active=True):
        size = self.film().crop_size()
        aspect = size.y / size.x
        # Mitsuba's camera looks along +z with +x to the left.
        x = (1 - 2 * position_sample.x) * self.half_width
        y = (1 - 2 * position_sample.y) * self.half_width * aspect
        # A point in front of the focus is shifted away from the lens point that sees it, and there the
        # spec wants the picture of the aperture upright: so the lens point is minus the picture's point.
        lens = self._aperture_point(aperture_sample)
        origin = mi.Point3f(lens.x, -lens.y, 0)
        aim = mi.Point3f(x, y, 1) * self.focus
        to_world = self.world_transform()
        ray = mi.Ray3f()
        ray.time = time
        ray.wavelengths = []
        ray.o = to_world @ origin
        ray.d = to_world @ dr.normalize(mi.Vector3f(aim - origin))
        return ray, mi.Color3f(1)

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
        return f"FocuspullLens[blades={self.blades}, squeeze={self.squeeze}]"


def register() -> None:
    """Makes the plugins known to Mitsuba as ``focuspull_surface`` and ``focuspull_lens``."""
    mi.register_bsdf("focuspull_surface", Surface)
    mi.register_sensor("focuspull_lens", ShapedLens)
