"use strict";
// The viewer of `focuspull.dataset.viewer`, which writes the page and describes its data.
//
// Everything the page shows is `state`; controls and keys change it and call `render`. The same state is the page's
// address:
//   clip=KEY  frame=N  view=aif|bokeh|disparity|difference|coc|split
//   target=bokehN (held)   or   focus=D and k=K at 1024 px (the nearest target of each frame)
//   against=aif|bokehN  gain=1|2|4|8  wipe=0..1  zoom=0|1|2|4  at=X,Y (pinned pixel of the clip)
// Text from metadata goes into the document as text nodes only.
(() => {
  const byId = (id) => document.getElementById(id);
  const page = JSON.parse(byId("document").textContent);
  const root = document.documentElement;
  const VIEWS = [
    ["aif", "AIF"], ["bokeh", "Bokeh"], ["disparity", "Disparity"],
    ["difference", "Difference"], ["coc", "Signed CoC"], ["split", "Split"],
  ];
  const DISPARITY_MAX = 65535;
  const REFERENCE_WIDTH = 1024;
  const CACHE_BYTES = 400e6;
  const START = {
    clip: -1, frame: 0, view: "bokeh", target: 0, focus: null, k: null,
    against: "aif", gain: 2, wipe: 0.5, zoom: 0, probe: null,
  };
  // `frame` counts the frames on this page; `target` is null while focus and k choose it.
  const state = { ...START, hover: null, playing: false };

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made[key] = value;
    made.append(...children);
    return made;
  }

  function number(value, digits = 3) {
    return value === null ? "–" : String(Number(value.toPrecision(digits)));
  }

  function metres(value) {
    return value === null || value === Infinity ? "infinity" : `${number(value)} m`;
  }

  function span(low, high, unit = "") {
    return (number(low) === number(high) ? number(low) : `${number(low)}–${number(high)}`) + unit;
  }

  function plural(count, noun) {
    return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
  }

  function fail(error) {
    byId("error").textContent = `This page failed: ${error && error.message ? error.message : error}`;
    byId("error").hidden = false;
    root.dataset.state = "error";
  }

  // Data: text to pixels

  const payloads = new Map();
  function payload(clip) {
    if (!payloads.has(clip)) payloads.set(clip, JSON.parse(byId(`payload-${clip}`).textContent));
    return payloads.get(clip);
  }

  function bytesOf(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  const cache = new Map();
  let cachedBytes = 0;
  function cached(key, size, make) {
    let entry = cache.get(key);
    if (entry) {
      cache.delete(key);
    } else {
      entry = { size, promise: make() };
      cachedBytes += size;
    }
    cache.set(key, entry);
    for (const [oldest, old] of cache) {
      if (cachedBytes <= CACHE_BYTES || oldest === key) break;
      cache.delete(oldest);
      cachedBytes -= old.size;
    }
    return entry.promise;
  }

  function picture(clip, stream, frame) {
    const { width, height } = page.clips[clip].picture;
    return cached(`${clip}/${stream}/${frame}`, 4 * width * height, () => {
      const blob = new Blob([bytesOf(payload(clip)[stream][frame])], { type: "image/webp" });
      return createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    });
  }

  function grid(clip, stream, frame) {
    const { width, height } = page.clips[clip].grid;
    return cached(`${clip}/${stream}/${frame}`, 2 * width * height, async () => {
      const packed = new Blob([bytesOf(payload(clip)[stream][frame])]);
      const inflated = packed.stream().pipeThrough(new DecompressionStream("deflate"));
      return unpackGrid(new Uint8Array(await new Response(inflated).arrayBuffer()), width, height);
    });
  }

  // Inverse of `_pack_grid`: planes of high and low bytes, zigzag, planar residual modulo 2^16.
  function unpackGrid(planes, width, height) {
    const cells = width * height;
    const values = new Uint16Array(cells);
    for (let y = 0, at = 0; y < height; y++) {
      let sum = 0;
      for (let x = 0; x < width; x++, at++) {
        const zigzag = (planes[at] << 8) | planes[cells + at];
        sum += (zigzag >>> 1) ^ -(zigzag & 1);
        values[at] = sum + (y ? values[at - width] : 0);
      }
    }
    return values;
  }

  // Targets

  const current = () => page.clips[state.clip];
  const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);
  const largestK = (clip) => largest(clip.targets.map((target) => largest(target.k_at_1024)));

  // The held target, or the one nearest to the wish; K counts as a share of the clip's largest.
  function shownTarget() {
    if (state.target !== null) return state.target;
    const scale = largestK(current()) || 1;
    let best = 0;
    let least = Infinity;
    current().targets.forEach((target, index) => {
      const focus = state.focus === null ? 0 : target.focus_disparity[state.frame] - state.focus;
      const k = state.k === null ? 0 : (target.k_at_1024[state.frame] - state.k) / scale;
      const distance = focus * focus + k * k;
      if (distance < least) [best, least] = [index, distance];
    });
    return best;
  }

  function wish(changes) {
    const target = current().targets[shownTarget()];
    if (state.target !== null) {
      state.focus = target.focus_disparity[state.frame];
      state.k = target.k_at_1024[state.frame];
    }
    Object.assign(state, changes, { target: null });
    render();
  }

  // Drawing

  const canvas = byId("canvas");
  const context = canvas.getContext("2d", { alpha: false });
  const scratch = element("canvas");
  const scratchContext = scratch.getContext("2d", { alpha: false, willReadFrequently: true });
  const turbo = bytesOf(page.turbo);
  const TURBO = colourTable(256, (index) => turbo.subarray(3 * index, 3 * index + 3));
  // In focus dark, in front orange, behind blue; the root makes small blur visible.
  const SIGNED = colourTable(511, (index) => {
    const side = (index - 255) / 255;
    const full = side > 0 ? [255, 168, 56] : [64, 160, 255];
    return full.map((value) => 20 + (value - 20) * Math.sqrt(Math.abs(side)));
  });

  function colourTable(count, colour) {
    const table = new Uint32Array(count);
    const bytes = new Uint8ClampedArray(table.buffer);
    for (let index = 0; index < count; index++) bytes.set([...colour(index), 255], 4 * index);
    return table;
  }

  function largestCoc(clip) {
    return largest(clip.targets.map((target) => largest(target.k.map((k, frame) => {
      const focus = target.focus_disparity[frame];
      return k * Math.max(focus, 1 - focus);
    }))));
  }

  function pixelsOf(image) {
    [scratch.width, scratch.height] = [canvas.width, canvas.height];
    scratchContext.drawImage(image, 0, 0);
    return scratchContext.getImageData(0, 0, scratch.width, scratch.height);
  }

  function drawDifference(left, right, gain) {
    const before = pixelsOf(left).data;
    const result = pixelsOf(right);
    const data = result.data;
    for (let at = 0; at < data.length; at += 4) {
      const difference = Math.max(
        Math.abs(data[at] - before[at]),
        Math.abs(data[at + 1] - before[at + 1]),
        Math.abs(data[at + 2] - before[at + 2]),
      );
      data[at] = data[at + 1] = data[at + 2] = difference * gain;
    }
    context.putImageData(result, 0, 0);
  }

  function drawGrid(clip, values, colour) {
    const { width, height } = clip.grid;
    [scratch.width, scratch.height] = [width, height];
    const image = scratchContext.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let at = 0; at < pixels.length; at++) pixels[at] = colour(values[at]);
    scratchContext.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    // The last cell of a row may stand for fewer pixels than a step; the picture ends where the clip does.
    const { step } = clip.grid;
    const scale = canvas.width / clip.width;
    context.drawImage(scratch, 0, 0, width * step * scale, height * step * canvas.height / clip.height);
  }

  let drawing = null;
  let stale = false;
  let drawn = null; // The grids on show, for values under the cursor.

  function render() {
    stale = true;
    root.dataset.state = "busy";
    drawing ??= (async () => {
      while (stale && state.clip >= 0) {
        stale = false;
        await draw();
      }
    })().catch(fail).finally(() => {
      drawing = null;
      if (root.dataset.state === "busy") root.dataset.state = "ready";
    });
    return drawing;
  }

  async function draw() {
    const { clip: at, frame, view, against, gain, wipe } = state;
    const clip = page.clips[at];
    const target = clip.targets[shownTarget()];
    syncControls();
    const streams = { aif: ["aif"], bokeh: [target.name], difference: [against, target.name], split: [against, target.name] };
    const pictures = streams[view] || [];
    const [disparity, instance, first, second] = await Promise.all([
      grid(at, "disparity", frame), grid(at, "instance", frame),
      ...pictures.map((stream) => picture(at, stream, frame)),
    ]);

    const { width, height } = clip.picture;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    if (view === "disparity") {
      drawGrid(clip, disparity, (value) => TURBO[Math.round(value / DISPARITY_MAX * 255)]);
    } else if (view === "coc") {
      const scale = target.k[frame] / (largestCoc(clip) || 1);
      const focus = target.focus_disparity[frame];
      drawGrid(clip, disparity, (value) => SIGNED[255 + Math.round(scale * (value / DISPARITY_MAX - focus) * 255)]);
    } else if (view === "difference") {
      drawDifference(first, second, gain);
    } else {
      context.drawImage(first, 0, 0);
      if (view === "split") {
        const edge = Math.round(wipe * width);
        if (edge < width) context.drawImage(second, edge, 0, width - edge, height, edge, 0, width - edge, height);
      }
    }
    drawn = { at, frame, disparity, instance };
    showReadout();
    // Ahead of playback.
    for (let next = 1; next <= 4; next++) {
      for (const stream of pictures) picture(at, stream, (frame + next) % clip.frames.length);
    }
  }

  // Controls follow the state

  function syncControls() {
    const clip = current();
    const index = shownTarget();
    const target = clip.targets[index];
    const frame = state.frame;
    const held = state.target !== null;
    const k = target.k_at_1024[frame];
    const focus = target.focus_disparity[frame];

    for (const button of byId("views").children) {
      button.setAttribute("aria-pressed", String(button.value === state.view));
    }
    const compares = state.view === "split" || state.view === "difference";
    byId("against-option").hidden = !compares;
    byId("gain-option").hidden = state.view !== "difference";
    byId("wipe-option").hidden = byId("wipe").hidden = state.view !== "split";
    byId("against").value = state.against;
    byId("gain").value = String(state.gain);
    byId("zoom").value = String(state.zoom);
    byId("wipe-slider").value = String(state.wipe);
    byId("wipe").style.left = `${100 * state.wipe}%`;
    byId("sheet").classList.toggle("split", state.view === "split");

    byId("frame").value = String(frame);
    const seconds = (clip.frames[frame] / clip.fps).toFixed(2);
    byId("frame-text").textContent = `frame ${clip.frames[frame]} of 0–${clip.num_frames - 1}, ${seconds} s`;
    byId("play").textContent = state.playing ? "❚❚ Pause" : "▶ Play";

    byId("match-text").textContent = held ? "held" : "nearest to the sliders";
    byId("shown-name").textContent = target.name;
    byId("shown-k").textContent = `${number(k)} (${number(target.k[frame])} px)`;
    byId("shown-focus").textContent = `${number(focus)} (${metres(target.focus_distance_m[frame])})`;
    const stop = target.f_number[frame];
    byId("shown-lens").textContent = [
      stop === null ? "pinhole" : `f/${number(stop, 2)}`, `lens ${target.lens_label}`, target.domain,
      ...(target.twin_of === null ? [] : [`twin of ${target.twin_of}`]),
    ].join("  ·  ");
    byId("shown").title = target.lens;

    const wishes = [["focus", focus, state.focus], ["k", k, state.k]];
    for (const [name, actual, wished] of wishes) {
      const shown = held || wished === null ? actual : wished;
      byId(name).value = String(shown);
      const differs = number(shown) !== number(actual);
      byId(`${name}-text`).textContent = differs ? `wished ${number(shown)}, shown ${number(actual)}` : number(actual);
    }
    byId("hold").checked = held;
    const kMax = Number(byId("k").max);
    clip.targets.forEach((other, position) => {
      const row = byId("targets").children[position].firstChild;
      row.setAttribute("aria-pressed", String(position === index));
      row.children[1].textContent = `K ${number(other.k_at_1024[frame])}`;
      row.children[2].lastChild.data = ` ${other.focus_disparity[frame].toFixed(2)}`;
      for (const [ticks, share] of [["focus-ticks", other.focus_disparity[frame]], ["k-ticks", other.k_at_1024[frame] / kMax]]) {
        const tick = byId(ticks).children[position];
        tick.style.left = `${100 * share}%`;
        tick.classList.toggle("on", position === index);
      }
      byId("noise").children[1 + position].classList.toggle("on", position === index);
    });

    // Not scrollIntoView, which would move the page too.
    const list = byId("targets");
    const { offsetTop: top, offsetHeight: height } = list.children[index];
    list.scrollTop = Math.min(top, Math.max(list.scrollTop, top + height - list.clientHeight));

    const name = (stream) => (stream === "aif" ? "AIF" : stream);
    const tags = {
      aif: ["AIF", ""], bokeh: [target.name, ""], disparity: ["disparity", ""], coc: [`signed CoC of ${target.name}`, ""],
      difference: [`|${name(state.against)} − ${target.name}| × ${state.gain}, largest channel`, ""],
      split: [name(state.against), target.name],
    };
    [byId("tag-left").textContent, byId("tag-right").textContent] = tags[state.view];
    const where = tags[state.view].filter((text) => text).join(" beside ");
    canvas.setAttribute("aria-label", `${where}, frame ${clip.frames[frame]}`);
    syncScale(clip);
    layoutSheet();
    syncAddress();
  }

  function syncScale(clip) {
    const reach = largestCoc(clip);
    const scales = {
      disparity: [`far ${metres(clip.disparity.z_far_m)}`, `near ${metres(clip.disparity.z_near_m)}`, TURBO],
      coc: [`behind −${number(reach)} px`, `in front +${number(reach)} px`, SIGNED],
      difference: ["0", `${number(255 / state.gain)} of 255`, colourTable(256, (index) => [index, index, index])],
    };
    const scale = scales[state.view];
    byId("scale").hidden = !scale;
    if (!scale) return;
    [byId("scale-low").textContent, byId("scale-high").textContent] = scale;
    const bar = byId("scale-bar");
    bar.width = scale[2].length;
    const image = new ImageData(bar.width, 1);
    new Uint32Array(image.data.buffer).set(scale[2]);
    bar.getContext("2d").putImageData(image, 0, 0);
  }

  function layoutSheet() {
    const clip = current();
    const { width, height } = clip.picture;
    const stage = byId("stage");
    const narrow = matchMedia("(max-width: 900px)").matches;
    const room = narrow ? 0.6 * innerHeight : stage.clientHeight;
    const fit = Math.max(0.01, Math.min(stage.clientWidth / width, room / height));
    const scale = state.zoom ? state.zoom / devicePixelRatio : fit;
    const sheet = byId("sheet");
    sheet.style.width = `${width * scale}px`;
    sheet.style.height = `${height * scale}px`;
    stage.style.overflow = state.zoom ? "auto" : "hidden";
    // Enlarged pixels stay pixels, where interpolation would look like blur of the lens.
    sheet.classList.toggle("coarse", scale * devicePixelRatio >= 2);
  }

  function showReadout() {
    const at = state.hover || state.probe;
    const clip = current();
    byId("unpin").hidden = state.probe === null;
    byId("probe").hidden = state.probe === null;
    byId("disc").hidden = true;
    if (state.probe) place(byId("probe"), state.probe, clip);
    if (!at || !drawn || drawn.at !== state.clip) {
      byId("readout").replaceChildren(
        element("dd", { className: "muted", textContent: "Point at the picture; click to pin a pixel, double click to focus there." }),
      );
      byId("readout").firstChild.style.gridColumn = "1 / -1";
      return;
    }
    const [x, y] = at;
    const { step, width, height } = clip.grid;
    const cell = Math.min(Math.floor(y / step), height - 1) * width + Math.min(Math.floor(x / step), width - 1);
    const stored = drawn.disparity[cell];
    const disparity = stored / DISPARITY_MAX;
    const inverse = clip.disparity.offset + clip.disparity.scale * disparity;
    const target = clip.targets[shownTarget()];
    const coc = target.k[drawn.frame] * (disparity - target.focus_disparity[drawn.frame]);
    const radius = Math.abs(coc);
    const side = radius < 0.005 ? "in focus" : coc > 0 ? "in front of the focus" : "behind the focus";
    const id = drawn.instance[cell];
    const name = id === 0 ? "none" : Object.hasOwn(clip.instances, id) ? `${clip.instances[id]} (${id})` : `${id}`;
    describe(byId("readout"), [
      ["pixel", `${x}, ${y}${state.hover || !state.probe ? "" : "  (pinned)"}`],
      ["disparity", `${disparity.toFixed(5)}  (${stored} / ${DISPARITY_MAX})`],
      ["depth", inverse > 0 ? `${number(1 / inverse, 4)} m` : "infinity"],
      ["CoC", `${radius.toFixed(2)} px, ${side}`],
      ["", `${(radius * REFERENCE_WIDTH / clip.width).toFixed(2)} px at ${REFERENCE_WIDTH} px width`],
      ["instance", name],
    ]);
    if (state.probe && !state.hover && state.view !== "aif") {
      const disc = byId("disc");
      const share = 2 * radius / clip.width;
      disc.hidden = radius < 1;
      place(disc, at, clip);
      disc.style.width = `${100 * share}%`;
      disc.style.aspectRatio = "1";
    }
  }

  function place(mark, [x, y], clip) {
    mark.style.left = `${100 * (x + 0.5) / clip.width}%`;
    mark.style.top = `${100 * (y + 0.5) / clip.height}%`;
  }

  function describe(list, rows) {
    list.replaceChildren(...rows.flatMap(([term, text, className = ""]) => [
      element("dt", { textContent: term }), element("dd", { textContent: text, className }),
    ]));
  }

  // Opening a clip

  function openClip(index) {
    if (state.clip < 0) overviewScroll = scrollY;
    state.clip = index;
    state.hover = null;
    drawn = null;
    const clip = current();
    document.title = `${clip.key} · ${page.corpus.name} · focuspull`;
    byId("overview").hidden = true;
    byId("detail").hidden = false;
    byId("clip-key").textContent = clip.key;
    byId("clip-split").textContent = `${clip.split}, ${index + 1} of ${page.clips.length}`;
    byId("previous-clip").disabled = index === 0;
    byId("next-clip").disabled = index === page.clips.length - 1;
    byId("frame").max = String(clip.frames.length - 1);
    byId("frame").disabled = byId("play").disabled = clip.frames.length === 1;
    const kMax = largestK(clip);
    byId("k").max = String(kMax > 0 ? Math.ceil(kMax * 10) / 10 : 1);
    byId("k-max").textContent = byId("k").max;
    byId("against").replaceChildren(
      ...["aif", ...clip.targets.map((target) => target.name)].map((stream) =>
        element("option", { value: stream, textContent: stream === "aif" ? "AIF" : stream })),
    );
    if (!clip.targets.some((target) => target.name === state.against)) state.against = "aif";
    for (const ticks of ["focus-ticks", "k-ticks"]) {
      byId(ticks).replaceChildren(...clip.targets.map(() => element("i")));
    }
    byId("targets").replaceChildren(...clip.targets.map((target, position) => {
      const extra = [target.lens_label, target.domain === "linear_hdr" ? "" : target.domain,
        target.twin_of === null ? "" : `twin of ${target.twin_of}`];
      const button = element("button", { type: "button", title: `Hold ${target.name}` },
        element("span", { textContent: target.name }), element("span"),
        element("span", {}, "d", element("sub", { textContent: "f" }), ""),
        element("span", { textContent: extra.filter((text) => text).join(", ") }));
      button.addEventListener("click", () => hold(position));
      return element("li", {}, button);
    }));
    showProvenance(clip);
    if (innerWidth <= 900) scrollTo(0, 0);
    render();
  }

  function hold(target) {
    Object.assign(state, { target, focus: null, k: null });
    render();
  }

  function showProvenance(clip) {
    const { renderer, picture: shown } = clip;
    const pixels = page.detail.lossless ? "stored pixels, lossless" : `WebP quality ${page.detail.quality}`;
    const sizes = shown.width === clip.width ? "" : `${shown.width} × ${shown.height} px, `;
    const step = clip.grid.step;
    const every = step === 1 ? "every pixel" : `every ${step}${step === 2 ? "nd" : step === 3 ? "rd" : "th"} pixel each way`;
    const frames = page.detail.frame_step === 1 ? "" : `, 1 frame in ${page.detail.frame_step}`;
    describe(byId("provenance"), [
      ["backend", `${renderer.backend} ${renderer.backend_version}`],
      ["variant", renderer.variant],
      ["sampling", clip.method],
      ["focuspull", renderer.focuspull_version],
      ["shard", clip.shard],
      ["clip", `${clip.width} × ${clip.height}, ${plural(clip.num_frames, "frame")} at ${number(clip.fps, 4)} Hz, ${number(clip.bytes / 1e6)} MB`],
      ["shown here", `${sizes}${pixels}${frames}; disparity of ${every}`],
      ["depth", `${metres(clip.disparity.z_near_m)} to ${metres(clip.disparity.z_far_m)}`],
      ["camera", `${number(clip.focal_length_mm)} mm on ${number(clip.sensor_width_mm)} mm, exposure ${number(clip.exposure_ev)} EV`],
      ["motion", clip.camera_motion_px === null ? "one frame" : `camera ${number(clip.camera_motion_px, 2)}, flow ${number(clip.image_motion_px, 2)} px per frame at 1024`],
      ["brightness", `${number(clip.brightness)} of 1, mean of the AIF`],
      ["rendered in", clip.render_seconds === null ? "not recorded" : `${number(clip.render_seconds)} s`],
      ["spec", clip.spec_sha256, "hash"],
      ["scene", clip.scene_sha256, "hash"],
      ["content", clip.members_sha256, "hash"],
    ]);
    byId("noise").replaceChildren(...[["aif", clip.aif], ...clip.targets.map((target) => [target.name, target])].map(
      ([name, { samples, noise_floor_db: floor }]) => element("tr", {},
        element("td", { textContent: name }), element("td", { textContent: number(samples, 4) }),
        element("td", { textContent: floor === null ? "not measured" : `${floor.toFixed(1)} dB` }))));
  }

  // Address

  let addressTimer = 0;
  function address() {
    const clip = current();
    const parts = new URLSearchParams({ clip: clip.key, frame: clip.frames[state.frame], view: state.view });
    if (state.target !== null) parts.set("target", clip.targets[state.target].name);
    else {
      if (state.focus !== null) parts.set("focus", number(state.focus, 4));
      if (state.k !== null) parts.set("k", number(state.k, 4));
    }
    for (const name of ["against", "gain", "wipe", "zoom"]) {
      if (state[name] !== START[name]) parts.set(name, state[name]);
    }
    return `#${parts}${state.probe ? `&at=${state.probe.join(",")}` : ""}`;
  }

  function syncAddress() {
    clearTimeout(addressTimer);
    addressTimer = setTimeout(() => {
      if (state.clip >= 0 && !state.playing) history.replaceState(null, "", address());
    }, 200);
  }

  function readAddress() {
    pause();
    clearTimeout(addressTimer);
    const parts = new URLSearchParams(location.hash.slice(1));
    const index = page.clips.findIndex((clip) => clip.key === parts.get("clip"));
    byId("error").hidden = !parts.has("clip") || index >= 0;
    if (index < 0) {
      byId("error").textContent = `There is no clip '${parts.get("clip")}' on this page.`;
      showOverview();
      return;
    }
    const clip = page.clips[index];
    const one = (name, allowed, read = String) => {
      const value = read(parts.get(name));
      return parts.has(name) && allowed(value) ? value : START[name];
    };
    const within = (low, high) => (value) => value >= low && value <= high;
    const target = clip.targets.findIndex((other) => other.name === parts.get("target"));
    const wanted = one("frame", Number.isFinite, Number);
    const distances = clip.frames.map((frame) => Math.abs(frame - wanted));
    const [x, y] = (parts.get("at") || "").split(",").map(Number);
    Object.assign(state, START, {
      frame: distances.indexOf(Math.min(...distances)),
      view: one("view", (value) => VIEWS.some(([name]) => name === value)),
      focus: one("focus", within(0, 1), Number),
      k: one("k", within(0, Infinity), Number),
      against: one("against", (value) => value === "aif" || clip.targets.some(({ name }) => name === value)),
      gain: one("gain", (value) => [1, 2, 4, 8].includes(value), Number),
      wipe: one("wipe", within(0, 1), Number),
      zoom: one("zoom", (value) => [0, 1, 2, 4].includes(value), Number),
      probe: within(0, clip.width - 1)(x) && within(0, clip.height - 1)(y) ? [Math.floor(x), Math.floor(y)] : null,
      clip: state.clip,
    });
    if (target >= 0) Object.assign(state, { target, focus: null, k: null });
    else state.target = state.focus === null && state.k === null ? 0 : null;
    openClip(index);
  }

  function goToClip(index) {
    if (index < 0 || index >= page.clips.length) return;
    const parts = new URLSearchParams({ clip: page.clips[index].key, view: state.view });
    location.hash = `#${parts}`;
  }

  // Overview

  let overviewScroll = 0;
  function showOverview() {
    state.clip = -1;
    document.title = `${page.corpus.name} · focuspull`;
    byId("detail").hidden = true;
    byId("overview").hidden = false;
    scrollTo(0, overviewScroll);
    root.dataset.state = "ready";
  }

  function buildOverview() {
    const { corpus, detail, clips } = page;
    byId("corpus-name").textContent = corpus.name;
    const facts = [
      plural(corpus.num_clips, "clip"), plural(corpus.num_targets, "target"), plural(corpus.num_frames, "frame"),
      Object.entries(corpus.splits).map(([split, count]) => `${split} ${count}`).join(", "),
      corpus.sizes.length > 3 ? `${corpus.sizes.length} sizes` : corpus.sizes.join(", "),
      `${number(corpus.bytes / 1e6)} MB`, corpus.backends.join(", "),
      ...(corpus.cpu_seconds === null ? [] : [`${number(corpus.cpu_seconds / 3600, 2)} CPU h`]),
    ];
    byId("corpus-facts").replaceChildren(...facts.map((text) => element("li", { textContent: text })));
    byId("grid").replaceChildren(...clips.map(card));
    byId("charts-legend").replaceChildren(
      element("i", { className: "swatch" }), element("span", { textContent: `whole corpus, ${plural(corpus.num_clips, "clip")}` }),
      element("i", { className: "swatch line" }), element("span", { textContent: `shown here, ${plural(clips.length, "clip")}` }),
    );
    byId("charts").replaceChildren(...page.charts.map(chart));
    const pixels = detail.lossless
      ? "Pictures are the stored pixels, exactly."
      : `Pictures are at most ${detail.width} px wide, WebP quality ${detail.quality}, so that the page stays small.`;
    const frames = detail.frame_step === 1 ? "" : ` One frame in ${detail.frame_step} is shown.`;
    byId("about").textContent = `It shows ${clips.length} of ${plural(corpus.num_clips, "clip")} and needs no network. ${pixels}${frames} `
      + "Disparity and instance ids are exact 16-bit values; each clip says of which pixels.";
  }

  function card(clip, index) {
    const sameSize = page.clips.every((other) => other.width * clip.height === clip.width * other.height);
    const thumbnail = `data:image/webp;base64,${clip.thumbnail}`;
    const image = element("img", { src: thumbnail, alt: "", decoding: "async" });
    image.classList.toggle("coarse", clip.width < 160);
    const bar = element("span", { className: "progress" });
    const box = element("span", { className: "picture" }, image, bar);
    if (sameSize) box.style.aspectRatio = `${clip.width} / ${clip.height}`;
    // Moving over a card goes through the clip.
    box.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "mouse") return;
      const bounds = box.getBoundingClientRect();
      const share = Math.min(0.999, Math.max(0, (event.clientX - bounds.left) / bounds.width));
      const frames = payload(index)[clip.targets[0].name];
      image.src = `data:image/webp;base64,${frames[Math.floor(share * frames.length)]}`;
      bar.style.width = `${100 * share}%`;
    });
    box.addEventListener("pointerleave", () => {
      image.src = thumbnail;
      bar.style.width = "0";
    });
    const ks = clip.targets.flatMap((target) => target.k_at_1024);
    const { z_near_m: near, z_far_m: far } = clip.disparity;
    const values = [
      `${plural(clip.targets.length, "target")}, K ${span(Math.min(...ks), Math.max(...ks))} at ${REFERENCE_WIDTH}`,
      `${plural(clip.num_frames, "frame")}, depth ${far === null ? `${number(near)} m to infinity` : span(near, far, " m")}`,
    ];
    const link = element("a", { className: "card", href: `#${new URLSearchParams({ clip: clip.key })}` }, box,
      element("span", { className: "title" }, element("span", { textContent: clip.key }), element("span", { className: "muted", textContent: clip.split })),
      ...values.map((text) => element("span", { className: "values", textContent: text })));
    return element("li", {}, link);
  }

  function chart({ title, unit, counted, edges, corpus, shown, num_corpus: numCorpus, num_shown: numShown, infinite }) {
    const shares = (counts, total) => (counts && total ? counts.map((count) => count / total) : null);
    const grey = shares(corpus, numCorpus);
    const line = shares(shown, numShown);
    const peak = largest([...(grey || []), ...(line || [])]);
    const heading = element("figcaption", {},
      element("b", { textContent: title + (unit ? `, ${unit}` : "") }),
      element("span", { textContent: peak ? `peak ${number(100 * peak, 2)} %` : "" }),
      element("span", { textContent: counted + (corpus ? "" : "; shown here only") }));
    const figure = element("figure", { className: "chart" }, heading);
    if (!peak) {
      figure.append(element("div", { className: "none", textContent: "nothing to count" }));
      return figure;
    }
    const svg = (name, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      return made;
    };
    const bins = shown.length;
    const drawing = svg("svg", { viewBox: `0 0 ${bins} 1`, preserveAspectRatio: "none", role: "img", "aria-label": `Histogram of ${title}` });
    const path = ["M0 1"];
    for (let bin = 0; bin < bins; bin++) {
      if (grey) drawing.append(svg("rect", { class: "bar", x: bin + 0.04, width: 0.92, y: 1 - 0.97 * grey[bin] / peak, height: 0.97 * grey[bin] / peak }));
      if (line) path.push(`V${1 - 0.97 * line[bin] / peak}H${bin + 1}`);
    }
    if (line) drawing.append(svg("path", { class: "step", d: `${path.join("")}V1` }));
    for (let bin = 0; bin < bins; bin++) {
      const last = infinite && bin === bins - 1;
      const hit = svg("rect", { x: bin, width: 1, y: 0, height: 1, fill: "transparent" });
      const note = svg("title", {});
      note.textContent = `${number(edges[bin])} to ${last ? "infinity" : number(edges[bin + 1])} ${unit}: `
        + (corpus ? `${corpus[bin]} of ${numCorpus} in the corpus, ` : "") + `${shown[bin]} of ${numShown} shown here`;
      hit.append(note);
      drawing.append(hit);
    }
    const ends = [number(edges[0]), number(edges[Math.floor(bins / 2)]), infinite ? "∞" : number(edges[bins])];
    figure.append(drawing, element("div", { className: "axis" }, ...ends.map((text) => element("span", { textContent: text }))));
    return figure;
  }

  // Playback

  function pause() {
    state.playing = false;
    byId("play").textContent = "▶ Play";
  }

  function togglePlay() {
    if (state.playing || current().frames.length === 1) {
      pause();
      syncAddress();
      return;
    }
    state.playing = true;
    const rate = current().fps / page.detail.frame_step;
    const first = performance.now() - 1000 * state.frame / rate;
    const opened = state.clip;
    const advance = async () => {
      if (!state.playing || state.clip !== opened) return;
      // A frame that comes late is followed by the one whose time it is.
      const due = Math.floor((performance.now() - first) / 1000 * rate + 0.01);
      state.frame = due % current().frames.length;
      await render();
      setTimeout(advance, Math.max(0, first + 1000 * (due + 1) / rate - performance.now()));
    };
    advance();
  }

  function goToFrame(frame) {
    pause();
    const count = current().frames.length;
    state.frame = (frame + count) % count;
    render();
  }

  // Events

  function pixelAt(event) {
    const bounds = byId("sheet").getBoundingClientRect();
    const clip = current();
    const scaled = (share, length) => Math.min(length - 1, Math.max(0, Math.floor(share * length)));
    return [
      scaled((event.clientX - bounds.left) / bounds.width, clip.width),
      scaled((event.clientY - bounds.top) / bounds.height, clip.height),
    ];
  }

  function movePin(dx, dy) {
    const clip = current();
    const [x, y] = state.probe || [clip.width >> 1, clip.height >> 1];
    state.hover = null;
    state.probe = [Math.min(clip.width - 1, Math.max(0, x + dx)), Math.min(clip.height - 1, Math.max(0, y + dy))];
    showReadout();
    syncAddress();
  }

  function setView(view) {
    state.view = view;
    render();
  }

  function showHelp(shown) {
    byId("help").hidden = !shown;
    byId("help-button").setAttribute("aria-expanded", String(shown));
  }

  const KEYS = {
    " ": togglePlay,
    ArrowLeft: () => goToFrame(state.frame - 1),
    ArrowRight: () => goToFrame(state.frame + 1),
    Home: () => goToFrame(0),
    End: () => goToFrame(current().frames.length - 1),
    ArrowUp: () => hold((shownTarget() + current().targets.length - 1) % current().targets.length),
    ArrowDown: () => hold((shownTarget() + 1) % current().targets.length),
    h: () => byId("hold").click(),
    z: () => { state.zoom = { 0: 1, 1: 2, 2: 4, 4: 0 }[state.zoom]; render(); },
    n: () => goToClip(state.clip + 1),
    p: () => goToClip(state.clip - 1),
    "?": () => showHelp(byId("help").hidden),
    Escape: () => { if (byId("help").hidden) location.hash = ""; else showHelp(false); },
  };
  VIEWS.forEach(([view], index) => { KEYS[index + 1] = () => setView(view); });

  function onKey(event) {
    if (state.clip < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const { type = "", tagName } = event.target;
    const arrow = event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End";
    if (tagName === "SELECT" || (type === "range" && arrow && !event.shiftKey)) return;
    // These have a meaning of their own for the space bar.
    if (event.key === " " && (tagName === "BUTTON" || tagName === "A" || type === "checkbox")) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const action = event.shiftKey && arrow
      ? steps[event.key] && (() => movePin(...steps[event.key]))
      : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  function listen() {
    const on = (id, event, action) => byId(id).addEventListener(event, action);
    addEventListener("hashchange", readAddress);
    addEventListener("keydown", onKey);
    addEventListener("resize", () => { if (state.clip >= 0) layoutSheet(); });
    on("back", "click", (event) => { event.preventDefault(); location.hash = ""; });
    on("previous-clip", "click", () => goToClip(state.clip - 1));
    on("next-clip", "click", () => goToClip(state.clip + 1));
    on("help-button", "click", () => showHelp(byId("help").hidden));
    on("play", "click", togglePlay);
    on("frame", "input", (event) => goToFrame(Number(event.target.value)));
    on("focus", "input", (event) => wish({ focus: Number(event.target.value) }));
    on("k", "input", (event) => wish({ k: Number(event.target.value) }));
    on("hold", "change", (event) => { if (event.target.checked) hold(shownTarget()); else wish({}); });
    on("unpin", "click", () => { state.probe = null; showReadout(); syncAddress(); });
    on("against", "change", (event) => { state.against = event.target.value; render(); });
    on("gain", "change", (event) => { state.gain = Number(event.target.value); render(); });
    on("zoom", "change", (event) => { state.zoom = Number(event.target.value); render(); });
    on("wipe-slider", "input", (event) => { state.wipe = Number(event.target.value); render(); });
    byId("views").replaceChildren(...VIEWS.map(([view, label], index) => {
      const button = element("button", { type: "button", value: view, textContent: label, title: `${label} (${index + 1})` });
      button.addEventListener("click", () => setView(view));
      return button;
    }));

    const sheet = byId("sheet");
    const wipeTo = (event) => {
      const bounds = sheet.getBoundingClientRect();
      state.wipe = Number(Math.min(1, Math.max(0, (event.clientX - bounds.left) / bounds.width)).toFixed(3));
      render();
    };
    sheet.addEventListener("pointerdown", (event) => {
      if (state.view !== "split" || event.button !== 0) return;
      sheet.setPointerCapture(event.pointerId);
      wipeTo(event);
    });
    sheet.addEventListener("pointermove", (event) => {
      if (sheet.hasPointerCapture(event.pointerId)) wipeTo(event);
      if (event.pointerType === "mouse") {
        state.hover = pixelAt(event);
        showReadout();
      }
    });
    sheet.addEventListener("pointerleave", () => { state.hover = null; showReadout(); });
    sheet.addEventListener("click", (event) => {
      if (state.view === "split") return;
      state.probe = pixelAt(event);
      showReadout();
      syncAddress();
    });
    sheet.addEventListener("dblclick", (event) => {
      if (state.view === "split" || !drawn) return;
      const [x, y] = pixelAt(event);
      const { step, width, height } = current().grid;
      const cell = Math.min(Math.floor(y / step), height - 1) * width + Math.min(Math.floor(x / step), width - 1);
      wish({ focus: drawn.disparity[cell] / DISPARITY_MAX });
    });
  }

  addEventListener("error", (event) => fail(event.error || event.message));
  addEventListener("unhandledrejection", (event) => fail(event.reason));
  if (typeof DecompressionStream === "undefined") {
    fail("this browser is too old; it needs Chrome 80, Firefox 113 or Safari 16.4");
    return;
  }
  listen();
  buildOverview();
  readAddress();
})();
