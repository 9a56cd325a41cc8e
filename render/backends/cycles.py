"""Blender Cycles backend (bpy): CPU path tracing target by target, in one process' main thread.

Rules learnt the hard way, each checked by a test: meshes are made from arrays (operators are neither fast
nor deterministic); ``scene.update_tag()`` before every render (persistent data ignores changes of
settings otherwise); pixels are taken from the render result in memory (a full disk makes bpy write
broken files without a word); ground truth comes from a pinhole render at pixel centres.
"""

# bpy has no stubs, nor have the modules that come with it.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import optics
from focuspull.dataset.errors import UserError
from focuspull.render.build import MAX_TRANSPARENT_HITS, MIN_ALPHA, Built, Item, Surface
from focuspull.render.frames import Aperture, Image, Method, View, shutter_times, split_samples
from focuspull.render.geometry import Mesh
from focuspull.render.spec import cycles_problem
from focuspull.render.textures import TextureMap

TILE_PX = 8192
"""Above every film we render: with tiles, the in-memory render result holds zeros."""
SKY_DEPTH_M = 1e9
SUN_PASS_INDEX = 32767
CUTOUT_NODE = "cutout"
"""Between an opacity as it is (factor 0) and rounded (1), in the materials of cards."""


def import_bpy() -> Any:
    """Imports bpy.

    Raises:
        UserError: If it cannot be imported.
    """
    try:
        import bpy
    except ImportError as error:
        raise UserError(f"bpy: cannot be imported ({error}). Try: focuspull-render info.") from error
    return bpy


VARIANT = "cycles-cpu"


def choose_variant() -> str:
    """The only one there is so far."""
    return VARIANT


def force_variant(variant: str) -> None:
    """Refuses any other."""
    if variant not in ("", VARIANT):
        raise UserError(f"cycles: there is no variant '{variant}'. Use {VARIANT}.")


def open_session(built: Built, *, threads: int) -> CyclesSession:
    """Loads a scene.

    Raises:
        UserError: If the scene asks for what Cycles does not have.
    """
    scene = built.scene
    if problem := cycles_problem([(t.lens, t.domain) for t in scene.targets], scene.quality):
        raise UserError(problem)
    return CyclesSession(built, import_bpy(), threads)


def export_scene(built: Built, frame: int, folder: Path) -> None:
    """Writes ``scene.blend`` at a frame, with the camera and everything packed inside."""
    session = CyclesSession(built, import_bpy(), 1)
    session.prepare(frame, float(frame), None, built.scene.quality.aif_samples, 0)
    session.bpy.ops.file.pack_all()
    session.bpy.ops.wm.save_as_mainfile(filepath=str((folder / "scene.blend").absolute()))


class CyclesSession:
    """A scene in Blender; see `focuspull.render.frames.Session`."""

    def __init__(self, built: Built, bpy: Any, threads: int) -> None:
        self.variant = VARIANT
        self.bpy = bpy
        self._built = built
        self._passes: dict[str, NDArray[np.float32]] = {}
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self._scene = bpy.context.scene
        self._layer = bpy.context.view_layer
        self._configure(threads)
        self._tap_render_result()
        self._objects = {item.name: self._add_item(item) for item in built.items}
        self._add_points()
        self._set_environment()
        self._camera = self._add_camera()
        self._shown_frame = 0

    # --- One image ------------------------------------------------------------------------------

    def truth(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """One pinhole sample at each pixel centre; cut-outs are hard here: opaque above an opacity of 1/2."""
        self.prepare(frame, float(frame), None, 1, 0)
        self._cut_hard(True)
        self._scene.cycles.use_denoising = False
        self._scene.cycles.filter_width = 0.01
        self._layer.use_pass_z = self._layer.use_pass_object_index = True
        passes = self._render()
        self._cut_hard(False)
        self._layer.use_pass_z = self._layer.use_pass_object_index = False
        depth = passes["Depth"][..., 0]
        index = np.rint(passes["Object Index"][..., 0]).astype(np.int64)
        sky = (depth > SKY_DEPTH_M) | (index == SUN_PASS_INDEX)
        return np.where(sky, np.inf, depth).astype(np.float32), np.where(sky, 0, index).astype(np.uint16)

    def plan(self, frames: Sequence[Sequence[View]]) -> Method:
        """Cycles renders every target by itself."""
        return "separate"

    def render(self, frame: int, views: Sequence[View]) -> list[Image]:
        """Averages passes at stratified times in the shutter; each pass is denoised by Cycles."""
        scene = self._built.scene
        times = shutter_times(scene.film, frame)
        sums = [np.zeros((scene.film.height, scene.film.width, 3)) for _ in views]
        for number, time in enumerate(times):
            for i, view in enumerate(views):
                samples = split_samples(view.samples, len(times))
                seed = scene.noise_seed(frame, view.stream, number)
                self.prepare(frame, time, view.aperture, samples, seed)
                self._scene.cycles.use_denoising = scene.quality.denoise
                self._scene.cycles.filter_width = 1.0
                sums[i] += self._render()["Combined"][..., :3]
        samples = [split_samples(view.samples, len(times)) * len(times) for view in views]
        return [
            Image((total / len(times)).astype(np.float32), None, count)
            for total, count in zip(sums, samples, strict=True)
        ]

    def prepare(self, frame: int, time: float, aperture: Aperture | None, samples: int, seed: int) -> None:
        """Puts camera, objects, images, lens, samples and seed where they belong."""
        from mathutils import Matrix

        self._camera.matrix_world = Matrix(self._built.camera(time).tolist())
        for item in self._built.items:
            if item.moves:
                self._objects[item.name].matrix_world = Matrix(item.pose(time).tolist())
            if item.form is not None:
                _set_form(self._objects[item.name].data, item.form(time))
            if len(item.surfaces) > 1 and frame != self._shown_frame:
                materials = self._objects[item.name].data.materials
                old, materials[0] = materials[0], self._material(item.surface(frame), item.name)
                self.bpy.data.materials.remove(old)
                self.bpy.data.orphans_purge()
        self._shown_frame = frame
        lens = self._camera.data.dof
        lens.use_dof = aperture is not None
        if aperture is not None:
            shape = aperture.lens
            radius = aperture.radius_m
            if shape.blades:  # Cycles' polygon has circumradius R, ours the area of the disc
                step = 2 * math.pi / shape.blades
                radius *= math.sqrt(step / math.sin(step))
            # Cycles divides the width by its ratio and leaves the height: enlarge to keep the area.
            radius *= math.sqrt(shape.squeeze)
            lens.focus_distance = aperture.focus_distance_m
            lens.aperture_fstop = float(optics.f_number(self._camera.data.lens, radius))
            lens.aperture_blades = shape.blades
            lens.aperture_rotation = math.radians(shape.rotation_deg)
            lens.aperture_ratio = shape.squeeze
        self._scene.cycles.samples = samples
        self._scene.cycles.seed = seed

    def _cut_hard(self, hard: bool) -> None:
        """Rounds every opacity to 0 or 1, or no longer.

        Cycles' ``pass_alpha_threshold`` alone does not do: a path that scatters at a point below it writes
        that point's depth all the same, so that 40 % of the pixels would hit an opacity of 0.4.
        """
        for material in self.bpy.data.materials:
            switch = material.node_tree.nodes.get(CUTOUT_NODE)
            if switch is not None:
                switch.inputs["Factor"].default_value = float(hard)

    def _render(self) -> dict[str, NDArray[np.float32]]:
        self._scene.update_tag()  # else persistent data does not see changed settings
        self._passes.clear()
        self.bpy.ops.render.render(write_still=False)
        if "Combined" not in self._passes:
            raise RuntimeError("Cycles returned no image")
        return dict(self._passes)

    # --- Settings -------------------------------------------------------------------------------

    def _configure(self, threads: int) -> None:
        scene, film, quality = self._scene, self._built.scene.film, self._built.scene.quality
        render, cycles = scene.render, scene.cycles
        render.engine = "CYCLES"
        render.resolution_x, render.resolution_y, render.resolution_percentage = film.width, film.height, 100
        render.threads_mode, render.threads = "FIXED", threads
        render.use_persistent_data = True
        render.use_compositing = render.use_sequencer = False
        cycles.device = "CPU"
        cycles.use_auto_tile, cycles.tile_size = False, TILE_PX
        cycles.pixel_filter_type = "BOX"
        cycles.use_adaptive_sampling = False
        cycles.sample_clamp_direct = cycles.sample_clamp_indirect = 0.0
        cycles.blur_glossy = 0.0
        cycles.caustics_reflective = cycles.caustics_refractive = True
        cycles.light_sampling_threshold = 0.0
        cycles.use_light_tree = True
        cycles.max_bounces = cycles.diffuse_bounces = cycles.glossy_bounces = quality.max_bounces
        cycles.transmission_bounces = quality.max_bounces
        cycles.min_light_bounces = cycles.min_transparent_bounces = quality.max_bounces
        cycles.transparent_max_bounces = MAX_TRANSPARENT_HITS
        cycles.denoiser = "OPENIMAGEDENOISE"
        cycles.denoising_input_passes = "RGB_ALBEDO_NORMAL"
        cycles.denoising_prefilter = "ACCURATE"  # NONE loses 10 dB behind an open lens
        cycles.denoising_quality = "HIGH"
        cycles.denoising_use_gpu = False
        self._layer.pass_alpha_threshold = 0.5

    def _tap_render_result(self) -> None:
        """Makes each render leave its passes in ``self._passes``, rows from the top."""
        import _cycles  # noqa: F401  (proves that this bpy was built with Cycles)
        from cycles import CyclesRender

        original = getattr(CyclesRender, "focuspull_original", CyclesRender.render)
        passes = self._passes

        def render(engine: Any, depsgraph: Any) -> None:
            original(engine, depsgraph)
            for layer in engine.get_result().layers:
                for p in layer.passes:
                    result = engine.get_result()
                    pixels = np.empty(result.resolution_x * result.resolution_y * p.channels, np.float32)
                    p.rect.foreach_get(pixels)
                    shape = (result.resolution_y, result.resolution_x, p.channels)
                    passes[p.name] = pixels.reshape(shape)[::-1]

        CyclesRender.focuspull_original = original
        CyclesRender.render = render

    # --- Scene ----------------------------------------------------------------------------------

    def _add_item(self, item: Item) -> Any:
        from mathutils import Matrix

        source = item.mesh
        mesh = self.bpy.data.meshes.new(item.name)
        mesh.vertices.add(len(source.vertices))
        mesh.vertices.foreach_set("co", source.vertices.ravel())
        corners = source.triangles.ravel()
        mesh.loops.add(len(corners))
        mesh.loops.foreach_set("vertex_index", corners)
        mesh.polygons.add(len(source.triangles))
        mesh.polygons.foreach_set("loop_start", np.arange(0, len(corners), 3, dtype=np.int32))
        uv = mesh.uv_layers.new(name="UVMap")
        uv.uv.foreach_set("vector", source.uvs[corners].ravel())
        mesh.update(calc_edges=True)
        mesh.polygons.foreach_set("use_smooth", np.ones(len(source.triangles), bool))
        mesh.normals_split_custom_set_from_vertices(source.normals.tolist())
        mesh.materials.append(self._material(item.surface(0), item.name))
        obj = self.bpy.data.objects.new(item.name, mesh)
        obj.pass_index = SUN_PASS_INDEX if item.is_sun else item.instance
        obj.matrix_world = Matrix(item.pose(0.0).tolist())
        self._scene.collection.objects.link(obj)
        return obj

    def _add_points(self) -> None:
        for i, light in enumerate(self._built.points):
            lamp = self.bpy.data.lights.new(f"point-{i}", "POINT")
            lamp.shadow_soft_size = 0.0
            lamp.use_soft_falloff = False
            lamp.color = (1.0, 1.0, 1.0)
            # Watts over the whole sphere, so that the colour of the emission is the intensity.
            lamp.energy = 4 * math.pi
            nodes = _Nodes(lamp)
            emission = nodes.add("ShaderNodeEmission", Color=(*light.intensity_w_sr, 1.0), Strength=1.0)
            nodes.output("ShaderNodeOutputLight", emission)
            obj = self.bpy.data.objects.new(f"point-{i}", lamp)
            obj.location = light.position_m
            self._scene.collection.objects.link(obj)

    def _set_environment(self) -> None:
        world = self.bpy.data.worlds.new("environment")
        self._scene.world = world
        nodes = _Nodes(world)
        background = nodes.add("ShaderNodeBackground", Strength=1.0)
        if self._built.environment is None:
            background.inputs["Color"].default_value = (*self._built.environment_color, 1.0)
        else:
            texture = nodes.add("ShaderNodeTexEnvironment")
            texture.image = self._image("environment", self._built.environment)
            texture.interpolation = "Linear"
            nodes.link(texture.outputs["Color"], background.inputs["Color"])
            world.cycles.sampling_method = "AUTOMATIC"
        nodes.output("ShaderNodeOutputWorld", background)

    def _add_camera(self) -> Any:
        spec = self._built.scene.world.camera
        data = self.bpy.data.cameras.new("camera")
        data.lens, data.sensor_width, data.sensor_fit = (
            spec.focal_length_mm,
            spec.sensor_width_mm,
            "HORIZONTAL",
        )
        data.clip_start, data.clip_end = 1e-3, 1e6
        camera = self.bpy.data.objects.new("camera", data)
        self._scene.collection.objects.link(camera)
        self._scene.camera = camera
        return camera

    def _image(self, name: str, pixels: NDArray[np.float32]) -> Any:
        """A float image without any colour transform; one channel becomes grey."""
        height, width, _ = pixels.shape
        rgba = np.ones((height, width, 4), np.float32)
        rgba[..., :3] = pixels
        image = self.bpy.data.images.new(name, width, height, float_buffer=True, is_data=True)
        image.colorspace_settings.name = "Non-Color"
        image.use_half_precision = False
        image.pixels.foreach_set(rgba[::-1].ravel())
        image.update()
        return image

    def _material(self, surface: Surface, name: str) -> Any:
        """Our material from Cycles' Diffuse, Glossy, Glass and Emission nodes; see `spec.MaterialSpec`."""
        material = self.bpy.data.materials.new(name)
        nodes = _Nodes(material)
        if surface.emits:
            material.cycles.emission_sampling = "FRONT"
            light = self._value(nodes, surface.emission, f"{name}-emission")
            emission = nodes.add("ShaderNodeEmission", Color=light, Strength=1.0)
            facing = nodes.add("ShaderNodeNewGeometry").outputs["Backfacing"]
            dark = nodes.add("ShaderNodeEmission", Color=(0.0, 0.0, 0.0, 1.0), Strength=0.0)
            shader = nodes.mix(facing, emission, dark)
            if surface.opacity is not None:  # the light has its opacity in it
                shader = nodes.sum(shader, self._see_through(nodes, surface.opacity, name))
            nodes.output("ShaderNodeOutputMaterial", shader)
            return material
        bumps = self._bumps(nodes, surface, name)
        color = self._value(nodes, surface.base_color, f"{name}-color")
        roughness = self._value(nodes, _clamped(surface.roughness), f"{name}-roughness")
        shader = None
        if surface.transmission < 1:
            shader = self._opaque(nodes, surface, color, roughness, bumps)
        if surface.transmission > 0:
            smooth = surface.roughness == 0
            glass = nodes.add("ShaderNodeBsdfGlass", IOR=surface.ior, Color=color, **bumps)
            glass.distribution = "GGX"
            nodes.set(glass.inputs["Roughness"], 0.0 if smooth else roughness)
            shader = glass if shader is None else nodes.mix(surface.transmission, shader, glass)
        if surface.opacity is not None:
            alpha = self._opacity(nodes, surface.opacity, name)
            shader = nodes.mix(alpha, nodes.add("ShaderNodeBsdfTransparent"), shader)
        nodes.output("ShaderNodeOutputMaterial", shader)
        return material

    def _opacity(self, nodes: _Nodes, opacity: TextureMap, name: str) -> Any:
        """The opacity as a socket; `_cut_hard` makes it round to 0 or 1."""
        alpha = self._value(nodes, opacity, f"{name}-opacity")
        rounded = nodes.add("ShaderNodeMath")
        rounded.operation = "GREATER_THAN"
        nodes.set(rounded.inputs[0], alpha)
        rounded.inputs[1].default_value = 0.5
        switch = nodes.add("ShaderNodeMix", Factor=0.0, A=alpha, B=rounded.outputs[0])
        switch.name = CUTOUT_NODE
        return switch.outputs["Result"]

    def _see_through(self, nodes: _Nodes, opacity: TextureMap, name: str) -> Any:
        """A shader that passes what the opacity leaves, and does nothing else."""
        black = nodes.add("ShaderNodeEmission", Color=(0.0, 0.0, 0.0, 1.0), Strength=0.0)
        return nodes.mix(self._opacity(nodes, opacity, name), nodes.add("ShaderNodeBsdfTransparent"), black)

    def _bumps(self, nodes: _Nodes, surface: Surface, name: str) -> dict[str, Any]:
        """The input that bends a shader's normals by an image; none without one."""
        if surface.normals is None:
            return {}
        node = nodes.add("ShaderNodeNormalMap")
        node.space = "TANGENT"
        nodes.set(node.inputs["Color"], self._value(nodes, surface.normals, f"{name}-normals"))
        return {"Normal": node.outputs["Normal"]}

    def _opaque(
        self, nodes: _Nodes, surface: Surface, color: Any, roughness: Any, bumps: dict[str, Any]
    ) -> Any:
        def glossy(tint: Any) -> Any:
            node = nodes.add("ShaderNodeBsdfAnisotropic", Color=tint, Roughness=roughness, **bumps)
            node.distribution = "GGX"
            return node

        metal = glossy(color)
        if surface.metallic == 1:
            return metal
        # Fresnel inverts the index on back faces; ours is the same on both sides, so invert it there first.
        facing = nodes.add("ShaderNodeNewGeometry").outputs["Backfacing"]
        index = nodes.add("ShaderNodeMix", Factor=facing, A=surface.ior, B=1 / surface.ior)
        fresnel = nodes.add("ShaderNodeFresnel", IOR=index.outputs["Result"], **bumps)
        diffuse = nodes.add("ShaderNodeBsdfDiffuse", Color=color, Roughness=0.0, **bumps)
        dielectric = nodes.mix(fresnel.outputs["Fac"], diffuse, glossy((1.0, 1.0, 1.0)))
        return dielectric if surface.metallic == 0 else nodes.mix(surface.metallic, dielectric, metal)

    def _value(self, nodes: _Nodes, value: Any, name: str) -> Any:
        """A constant as it is, or the socket of an image texture."""
        if not isinstance(value, TextureMap):
            return value
        texture = nodes.add("ShaderNodeTexImage")
        texture.image = self._image(name, value.pixels)
        texture.interpolation = "Linear"
        texture.extension = "REPEAT" if value.repeats else "EXTEND"
        mapping = nodes.add("ShaderNodeMapping", Scale=(*value.tiles, 1.0))
        nodes.link(nodes.add("ShaderNodeTexCoord").outputs["UV"], mapping.inputs["Vector"])
        nodes.link(mapping.outputs["Vector"], texture.inputs["Vector"])
        return texture.outputs["Color"]


def _set_form(mesh: Any, form: Mesh) -> None:
    """Moves the vertices of a mesh, and its normals with them."""
    mesh.vertices.foreach_set("co", form.vertices.ravel())
    mesh.update()
    mesh.normals_split_custom_set_from_vertices(form.normals.tolist())
    mesh.update_tag()


def _clamped(roughness: float | TextureMap) -> float | TextureMap:
    """Roughness whose square is at least `MIN_ALPHA`."""
    low = math.sqrt(MIN_ALPHA)
    if isinstance(roughness, TextureMap):
        return TextureMap(np.maximum(roughness.pixels, low), roughness.tiles, roughness.repeats)
    return max(roughness, low)


class _Nodes:
    """A node tree under construction: values are constants or sockets to link."""

    def __init__(self, owner: Any) -> None:
        owner.use_nodes = True
        self._tree = owner.node_tree
        self._tree.nodes.clear()

    def add(self, kind: str, **inputs: Any) -> Any:
        node = self._tree.nodes.new(kind)
        for name, value in inputs.items():
            self.set(node.inputs[name], value)
        return node

    def set(self, socket: Any, value: Any) -> None:
        if hasattr(value, "is_linked"):
            self._tree.links.new(value, socket)
        elif isinstance(value, tuple) and len(value) == 3 and len(socket.default_value) == 4:
            socket.default_value = (*value, 1.0)
        else:
            socket.default_value = value

    def link(self, source: Any, target: Any) -> None:
        self._tree.links.new(source, target)

    def mix(self, factor: Any, first: Any, second: Any) -> Any:
        """``first`` where the factor is 0, ``second`` where it is 1."""
        node = self._tree.nodes.new("ShaderNodeMixShader")
        self.set(node.inputs[0], factor)
        self._tree.links.new(first.outputs[0], node.inputs[1])
        self._tree.links.new(second.outputs[0], node.inputs[2])
        return node

    def sum(self, first: Any, second: Any) -> Any:
        """Both shaders at once."""
        node = self._tree.nodes.new("ShaderNodeAddShader")
        self._tree.links.new(first.outputs[0], node.inputs[0])
        self._tree.links.new(second.outputs[0], node.inputs[1])
        return node

    def output(self, kind: str, shader: Any) -> None:
        self._tree.links.new(shader.outputs[0], self._tree.nodes.new(kind).inputs[0])
