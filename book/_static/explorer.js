/* The latent explorer: a β-VAE's decoder in plain JavaScript, and the page around it.

   One classic script without modules, network or other people's code, so that the page works when it
   is opened from disk. What it shows comes from explorer_data.js (brainvae_core/explorer.py). */
(function () {
  "use strict";

  // ---- the decoder: needs nothing around it, for its text is also the worker's ----

  function makeDecoder(layers, offset) {
    // Signals are float64, channels last: no conversion in the inner loop, and a row of taps is one
    // run of memory. A transposed convolution becomes convolutions, one for each phase of its stride.
    function upsampling(layer, input) {
      const [cin, cout, ky, kx] = layer.shape;
      const [s, p] = [layer.stride, layer.padding];
      const out = { h: (input.h - 1) * s - 2 * p + ky, w: (input.w - 1) * s - 2 * p + kx, c: cout };
      const taps = (phase, k) => {
        const found = []; // [distance in the input, tap], by rising distance
        for (let t = 0; t < k; t++)
          if ((phase + p - t) % s === 0) found.push([(phase + p - t) / s, t]);
        return found.sort((a, b) => a[0] - b[0]);
      };
      const phases = [];
      for (let ry = 0; ry < s; ry++) {
        for (let rx = 0; rx < s; rx++) {
          const [ys, xs] = [taps(ry, ky), taps(rx, kx)];
          const size = ys.length * xs.length * cin;
          const weights = new Float64Array(cout * size);
          let to = 0;
          for (let o = 0; o < cout; o++)
            for (const [, ty] of ys)
              for (const [, tx] of xs)
                for (let c = 0; c < cin; c++)
                  weights[to++] = layer.weights[((c * cout + o) * ky + ty) * kx + tx];
          const count = [Math.ceil((out.h - ry) / s), Math.ceil((out.w - rx) / s)];
          phases.push({ ry, rx, dy: ys[0][0], dx: xs[0][0], ny: ys.length, nx: xs.length, weights, count });
        }
      }
      const reach = (axis, n, size, d) => [
        Math.max(0, ...phases.map((f) => -f[d])),
        Math.max(0, ...phases.map((f) => f.count[axis] - 1 + f[d] + f[n] - size)),
      ];
      const [top, bottom] = reach(0, "ny", input.h, "dy");
      const [left, right] = reach(1, "nx", input.w, "dx");
      const pw = input.w + left + right;
      const padded = new Float64Array((input.h + top + bottom) * pw * cin);
      const bias = Float64Array.from(layer.bias);
      const data = new Float64Array(out.h * out.w * cout);
      const run = (signal) => {
        const row = input.w * cin;
        for (let y = 0; y < input.h; y++)
          padded.set(signal.subarray(y * row, (y + 1) * row), ((y + top) * pw + left) * cin);
        for (const f of phases) {
          for (let y = 0; y < f.count[0]; y++) {
            const from = ((y + top + f.dy) * pw + left + f.dx) * cin;
            const to = ((y * s + f.ry) * out.w + f.rx) * cout;
            convolveRow(padded, from, cin, pw * cin, f.weights, f.ny, f.nx * cin, bias, data, to, s * cout, f.count[1], layer.rectified);
          }
        }
        return data;
      };
      return { run, out };
    }

    // One row of one phase: `count` pixels of all output channels. Four pixels and two channels at a
    // time share what they load; a last block that would overhang starts earlier.
    function convolveRow(x, from, step, pitch, w, rows, run, bias, y, to, stride, count, rectified) {
      const size = rows * run;
      const channels = bias.length;
      const least = rectified ? 0 : -Infinity;
      if (count < 4) {
        for (let i = 0; i < count; i++)
          for (let o = 0; o < channels; o++) {
            let sum = bias[o];
            for (let r = 0; r < rows; r++)
              for (let k = 0; k < run; k++) sum += x[from + i * step + r * pitch + k] * w[o * size + r * run + k];
            y[to + i * stride + o] = sum > least ? sum : least;
          }
        return;
      }
      for (let block = 0; block < count; block += 4) {
        const i = block + 4 > count ? count - 4 : block;
        const start = from + i * step;
        const end = to + i * stride;
        let o = 0;
        for (; o + 1 < channels; o += 2) {
          let a0 = bias[o], a1 = a0, a2 = a0, a3 = a0;
          let b0 = bias[o + 1], b1 = b0, b2 = b0, b3 = b0;
          for (let r = 0; r < rows; r++) {
            let p = start + r * pitch;
            let u = o * size + r * run;
            for (const stop = u + run; u < stop; u++, p++) {
              const wa = w[u], wb = w[u + size];
              const x0 = x[p], x1 = x[p + step], x2 = x[p + 2 * step], x3 = x[p + 3 * step];
              a0 += wa * x0; a1 += wa * x1; a2 += wa * x2; a3 += wa * x3;
              b0 += wb * x0; b1 += wb * x1; b2 += wb * x2; b3 += wb * x3;
            }
          }
          y[end + o] = a0 > least ? a0 : least;
          y[end + stride + o] = a1 > least ? a1 : least;
          y[end + 2 * stride + o] = a2 > least ? a2 : least;
          y[end + 3 * stride + o] = a3 > least ? a3 : least;
          y[end + o + 1] = b0 > least ? b0 : least;
          y[end + stride + o + 1] = b1 > least ? b1 : least;
          y[end + 2 * stride + o + 1] = b2 > least ? b2 : least;
          y[end + 3 * stride + o + 1] = b3 > least ? b3 : least;
        }
        for (; o < channels; o++) {
          let a0 = bias[o], a1 = a0, a2 = a0, a3 = a0;
          for (let r = 0; r < rows; r++) {
            let p = start + r * pitch;
            let u = o * size + r * run;
            for (const stop = u + run; u < stop; u++, p++) {
              a0 += w[u] * x[p]; a1 += w[u] * x[p + step];
              a2 += w[u] * x[p + 2 * step]; a3 += w[u] * x[p + 3 * step];
            }
          }
          y[end + o] = a0 > least ? a0 : least;
          y[end + stride + o] = a1 > least ? a1 : least;
          y[end + 2 * stride + o] = a2 > least ? a2 : least;
          y[end + 3 * stride + o] = a3 > least ? a3 : least;
        }
      }
    }

    function linear(layer) {
      const [rows, columns] = layer.shape;
      const [w, bias] = [Float64Array.from(layer.weights), Float64Array.from(layer.bias)];
      const data = new Float64Array(rows);
      const least = layer.rectified ? 0 : -Infinity;
      const run = (x) => {
        for (let i = 0; i < rows; i++) {
          let sum = bias[i];
          for (let j = 0, u = i * columns; j < columns; j++, u++) sum += w[u] * x[j];
          data[i] = Math.max(sum, least);
        }
        return data;
      };
      return { run, out: { h: 1, w: 1, c: rows } };
    }

    // PyTorch reshapes to (channels, height, width).
    function reshape(layer) {
      const [c, h, w] = layer.shape;
      const data = new Float64Array(c * h * w);
      const run = (x) => {
        for (let k = 0, i = 0; k < c; k++) for (let at = 0; at < h * w; at++) data[at * c + k] = x[i++];
        return data;
      };
      return { run, out: { h, w, c } };
    }

    const kinds = { linear, reshape, upsampling };
    const steps = [];
    let signal = null; // shape of what the next layer gets
    layers.forEach((layer, i) => {
      if (layer.kind === "relu") return; // done by the layer before it
      if (!(layer.kind in kinds)) throw new Error("unknown layer " + layer.kind);
      const rectified = i + 1 < layers.length && layers[i + 1].kind === "relu";
      const made = kinds[layer.kind]({ ...layer, rectified }, signal);
      steps.push(made.run);
      signal = made.out;
    });
    return function decode(z) {
      let x = Float64Array.from(z);
      for (const step of steps) x = step(x);
      const image = new Float32Array(offset.length);
      for (let i = 0; i < image.length; i++) image[i] = 1 / (1 + Math.exp(-(x[i] + offset[i])));
      return image;
    };
  }

  function workerMain() {
    let decode = null;
    self.onmessage = ({ data }) => {
      if (data.layers) {
        decode = makeDecoder(data.layers, data.offset);
        return;
      }
      const begun = performance.now();
      const image = decode(data.z);
      self.postMessage({ image, ms: performance.now() - begun }, [image.buffer]);
    };
  }

  // Decodes beside the page where the browser lets a page from disk have a worker, else in it. Of
  // each kind of image ("start", "now") only the latest wish is kept: dragging never makes a queue.
  function makeEngine(layers, offset, done) {
    const wishes = new Map();
    let [worker, local, job] = [null, null, null];

    function finish(image, ms) {
      const finished = job;
      job = null;
      done(finished.tag, finished.z, image, ms);
      pump();
    }
    function here() {
      local = local || makeDecoder(layers, offset);
      const begun = performance.now();
      const image = local(job.z);
      finish(image, performance.now() - begun);
    }
    function pump() {
      if (job || !wishes.size) return;
      const tag = wishes.has("start") ? "start" : "now";
      job = { tag, z: wishes.get(tag) };
      wishes.delete(tag);
      if (worker) worker.postMessage({ z: job.z });
      else setTimeout(here, 0);
    }
    function withoutWorker() {
      if (!worker) return;
      worker = null;
      if (job) setTimeout(here, 0);
    }
    try {
      const text = makeDecoder + "\n(" + workerMain + ")();";
      worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
      worker.onmessage = ({ data }) => worker && finish(data.image, data.ms);
      worker.onerror = withoutWorker;
      worker.postMessage({ layers, offset });
    } catch {
      worker = null;
    }
    return {
      wish(tag, z) {
        wishes.set(tag, Float64Array.from(z));
        pump();
      },
    };
  }

  // ---- colours and words ----

  // ColorBrewer's RdBu, blue first: told apart with every kind of colour vision.
  const RDBU = ["053061", "2166ac", "4393c3", "92c5de", "d1e5f0", "ffffff", "fddbc7", "f4a582", "d6604d", "b2182b", "67001f"];
  const LIMITS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]; // of the difference's colours, grey values
  const BARS = [5, 2, 1, 0.5, 0.2, 0.1, 0.05]; // mm
  const SPEED = 2; // prior standard deviations a second, when a latent plays
  const QUIET = 400; // ms without a change until it is told and written to the address

  // Whole pixels, as an image's memory holds them.
  const pixel = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;
  const GREYS = Uint32Array.from({ length: 256 }, (_, v) => pixel([v, v, v]));
  const DIVERGING = (() => {
    const stops = RDBU.map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
    return Uint32Array.from({ length: 257 }, (_, i) => {
      const at = (i / 256) * (stops.length - 1);
      const k = Math.min(Math.floor(at), stops.length - 2);
      return pixel(stops[k].map((low, c) => Math.round(low + (at - k) * (stops[k + 1][c] - low))));
    });
  })();

  const minus = (text) => text.replace("-", "−");
  const signed = (x, digits) => (x > 0 ? "+" : "") + minus(x.toFixed(digits));
  const milli = (x) => Math.round(x * 1000) / 1000;

  function bytes(text) {
    const raw = atob(text);
    const found = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
    return found;
  }
  const floats = (text) => new Float32Array(bytes(text).buffer);

  function element(tag, attributes, ...inside) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "class") made.className = value;
      else if (name in made && name !== "list") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...inside);
    return made;
  }

  // ---- the page ----

  function explore(root, data) {
    const [height, width] = data.shape;
    const latentDim = data.latents.length;
    const labels = new Uint16Array(bytes(data.labels).buffer);
    const layers = data.layers.map((layer) =>
      layer.weights ? { ...layer, weights: floats(layer.weights), bias: floats(layer.bias) } : layer
    );
    const offset = floats(data.offset);
    const fit = data.fit;
    const zeros = new Array(latentDim).fill(0);
    const starts = new Map([
      ["prior", { id: "prior", name: "Prior mean (every latent 0)", code: zeros }],
      ["average", { id: "average", name: "Mean code of the training brains", code: data.mean_code }],
      ...data.brains.map((b) => [b.id, { ...b, name: b.fault ? `${b.id}: ${b.fault}` : `${b.id}: clean` }]),
    ]);
    const still = window.matchMedia("(prefers-reduced-motion: reduce)");
    const sizes = new Uint32Array(data.regions.length + 1);
    for (const label of labels) sizes[label]++;

    const state = { start: "prior", z: zeros.slice(), latent: 0, playing: false };
    const shown = { z: null, image: null, start: null, startImage: null, ms: null };
    let region = 0; // the one pointed at; 0 is none
    let quiet = null;
    let touched = false; // an address that nobody asked for would take the place of one that leads here
    let notice = "";

    // -- what stands there --

    const canvas = (name) => element("canvas", { width, height, class: "lx-pixels", role: "img", "aria-label": name });
    const small = (name) => element("figure", { class: "lx-small" }, canvas(name), element("figcaption", {}, name));
    const select = element("select", { id: "lx-start" });
    const group = (name, of) => element("optgroup", { label: name }, ...of.map((s) => element("option", { value: s.id }, s.name)));
    const brains = [...starts.values()].slice(2);
    select.append(
      group("Points of the latent space", [...starts.values()].slice(0, 2)),
      group("Test brains", brains.filter((b) => !b.fault)),
      group("Test brains with an artefact", brains.filter((b) => b.fault))
    );
    for (const one of [...select.children]) if (!one.children.length) one.remove();
    const button = (text) => element("button", { type: "button", class: "lx-button" }, text);
    const [reset, play, link] = [button("Reset"), button("Play F1"), button("Copy link")];
    const outlines = element("input", { type: "checkbox", id: "lx-outlines", checked: true });
    const address = element("input", { class: "lx-address", readOnly: true, hidden: true, "aria-label": "Link to this state" });

    const views = ["now", "change"].map((kind) => {
      const pixels = canvas(kind === "now" ? "Decoded section" : "Difference from the start");
      const over = element("canvas", { class: "lx-over", width: width * 4, height: height * 4, "aria-hidden": "true" });
      const stack = element("div", { class: "lx-stack" }, pixels, over);
      return { kind, pixels, over, stack };
    });
    const tip = element("div", { class: "lx-tip", hidden: true, "aria-hidden": "true" });
    const wide = (width * data.pixel_um) / 1000;
    const bar = BARS.find((mm) => mm <= 0.2 * wide) || BARS[BARS.length - 1];
    const barText = bar < 1 ? `${bar * 1000} µm` : `${bar} mm`;
    views[0].stack.append(element("span", { class: "lx-ruler", style: `width:${(100 * bar) / wide}%` }, barText));
    const key = (gradient, ...texts) =>
      element("div", { class: "lx-key" }, element("div", { class: "lx-ramp", style: `background:linear-gradient(to right,${gradient})` }),
        element("div", { class: "lx-ends" }, ...texts.map((t) => element("span", {}, t))));
    const greyKey = key("#000,#fff", "0", "brightness", data.white.toFixed(2));
    const changeKey = key(RDBU.map((c) => "#" + c).join(), "", "", "");
    const changeEnds = changeKey.querySelectorAll("span");
    const captions = [element("figcaption", {}, "Decoded section"), element("figcaption", {})];
    const figures = views.map((view, i) => element("figure", { class: "lx-figure" }, captions[i], view.stack, [greyKey, changeKey][i]));

    const rows = data.latents.map((latent, k) => {
      const id = `lx-f${k + 1}`;
      const at = (x) => 50 + (50 * Math.max(-data.limit, Math.min(data.limit, x))) / data.limit;
      const input = element("input", {
        type: "range", id, min: -data.limit, max: data.limit, step: 0.1, value: 0, "aria-describedby": `${id}-band`,
      });
      const lie = `95 % of the training brains lie between ${minus(latent.low.toFixed(1))} and ${minus(latent.high.toFixed(1))}`
        + (latent.active ? "" : "; inactive in this fit");
      const told = element("span", { class: "lx-hidden", id: `${id}-band` }, lie);
      const band = element("span", { class: "lx-band", style: `left:${at(latent.low)}%;width:${at(latent.high) - at(latent.low)}%` });
      const mark = element("span", { class: "lx-mark" });
      const track = element("span", { class: "lx-track" }, element("span", { class: "lx-rail" }, band, mark), input);
      const output = element("output", { htmlFor: id }, "0.00");
      const label = element("label", { htmlFor: id }, `F${k + 1}`);
      const row = element("div", { class: latent.active ? "lx-row" : "lx-row lx-inactive", title: lie }, label, track, output, told);
      return { row, input, output, mark, at };
    });
    const sliders = element("fieldset", { class: "lx-sliders" },
      element("legend", {}, "Latents ", element("span", {}, "prior standard deviations")),
      ...rows.map((r) => r.row),
      element("div", { class: "lx-row lx-scale", "aria-hidden": "true" }, element("span"),
        element("span", { class: "lx-ends" }, ...[minus(String(-data.limit)), "0", `+${data.limit}`].map((t) => element("span", {}, t)))),
      element("p", { class: "lx-note", "aria-hidden": "true" },
        element("span", { class: "lx-swatch" }), "the middle 95 % of the training brains; ", element("span", { class: "lx-tick" }), "the start"));

    const originals = [small("Brain"), small("Reconstruction")];
    const startNote = element("p", { class: "lx-note" });
    const startPanel = element("section", { class: "lx-panel" }, element("h2", {}, "Start"), element("div", { class: "lx-pair" }, ...originals), startNote);
    const handTitle = element("h2", {}, "F1");
    const field = element("img", { class: "lx-field dark-light", alt: "" });
    const seen = element("ul", { class: "lx-seen" });
    const strongest = Math.max(...data.latents.flatMap((l) => l.receptive), 1e-12);
    const bars = data.rois.map((roi) => {
      const fill = element("span", { class: "lx-fill" });
      const value = element("span", { class: "lx-value" });
      const name = element("abbr", { title: roi.name }, roi.acronym);
      seen.append(element("li", {}, name, element("span", { class: "lx-bar", "aria-hidden": "true" }, fill), value));
      return { fill, value };
    });
    const colours = [["00ffff", "small +c"], ["ff00ff", "small −c"], ["ffff00", "large |c|"]];
    const fieldKey = element("p", { class: "lx-note" }, ...colours.flatMap(([c, text]) => [element("span", {}, element("span", { class: "lx-swatch", style: `background:#${c}` }), text), " "]));
    const handPanel = element("section", { class: "lx-panel" }, handTitle,
      element("div", { class: "lx-pair" },
        element("div", {}, element("h3", {}, "What it paints"), field, fieldKey),
        element("div", {}, element("h3", {}, "What moves it (nats; bars: √)"), seen)));
    const table = element("tbody");
    const tablePanel = element("section", { class: "lx-panel" }, element("h2", {}, "Largest changes"),
      element("table", { class: "lx-table" },
        element("thead", {}, element("tr", {}, ...["Region", "Brightness", "Difference"].map((t) => element("th", { scope: "col" }, t)))), table));
    const status = element("p", { class: "lx-status", role: "status" });
    const source = element("p", { class: "lx-source" });

    root.replaceChildren(
      element("div", { class: "lx-tools" },
        element("label", { htmlFor: "lx-start" }, "Start from"), select, reset, play, link,
        element("span", { class: "lx-check" }, outlines, element("label", { htmlFor: "lx-outlines" }, "Outlines")), address),
      element("div", { class: "lx-main" }, element("div", { class: "lx-figures" }, ...figures, tip), sliders),
      status,
      element("div", { class: "lx-panels" }, handPanel, tablePanel, startPanel),
      source
    );
    root.classList.add("lx-ready");

    // -- pictures --

    // values from `low` to `high` in the colours of a table, what lies outside in its ends
    function paint(target, values, low, high, colours) {
      const context = target.getContext("2d");
      const image = context.createImageData(width, height);
      const pixels = new Uint32Array(image.data.buffer);
      const last = colours.length - 1;
      const scale = last / (high - low);
      for (let i = 0; i < pixels.length; i++) {
        const at = Math.round((values[i] - low) * scale);
        pixels[i] = colours[at < 0 ? 0 : at > last ? last : at];
      }
      context.putImageData(image, 0, 0);
    }

    // Borders between pixels of different regions, as lines of a finer canvas.
    function paths(belongs) {
      const path = new Path2D();
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++) {
          const here = belongs(labels[y * width + x]);
          if (x + 1 < width && belongs(labels[y * width + x + 1]) !== here) {
            path.moveTo(4 * x + 4, 4 * y);
            path.lineTo(4 * x + 4, 4 * y + 4);
          }
          if (y + 1 < height && belongs(labels[(y + 1) * width + x]) !== here) {
            path.moveTo(4 * x, 4 * y + 4);
            path.lineTo(4 * x + 4, 4 * y + 4);
          }
        }
      return path;
    }
    const borders = paths((label) => label);
    function drawOutlines() {
      const own = region ? paths((label) => label === region) : null;
      for (const { kind, over } of views) {
        const context = over.getContext("2d");
        context.clearRect(0, 0, over.width, over.height);
        context.lineCap = "square";
        if (outlines.checked) {
          context.strokeStyle = kind === "now" ? "rgba(255,255,255,.42)" : "rgba(0,0,0,.38)";
          context.lineWidth = 1.6;
          context.stroke(borders);
        }
        if (own) {
          context.strokeStyle = "#000";
          context.lineWidth = 8;
          context.stroke(own);
          context.strokeStyle = "#ffb000";
          context.lineWidth = 4.5;
          context.stroke(own);
        }
      }
    }

    // -- numbers --

    // Means over each region's pixels, of the image and of the difference.
    function means() {
      const found = [new Float64Array(sizes.length), new Float64Array(sizes.length)];
      for (let i = 0; i < labels.length; i++) {
        found[0][labels[i]] += shown.image[i];
        found[1][labels[i]] += shown.image[i] - shown.startImage[i];
      }
      return found.map((totals) => totals.map((total, label) => (sizes[label] ? total / sizes[label] : 0)));
    }
    const nameOf = (label) => {
      const { acronym, name } = data.regions[label - 1];
      return acronym.toLowerCase() === name.toLowerCase() ? name : `${acronym} · ${name}`;
    };
    const ready = () => shown.image && shown.startImage && shown.start === state.start;

    function summary() {
      const [, change] = shown.means;
      let total = 0;
      for (let i = 0; i < labels.length; i++) if (labels[i]) total += Math.abs(shown.image[i] - shown.startImage[i]);
      const mean = total / (labels.length - sizes[0] || 1);
      if (mean < 5e-5) return "No difference from the start.";
      const most = ranked(3).map((label) => `${data.regions[label - 1].acronym} ${signed(change[label], 3)}`);
      return `Mean absolute difference in the brain ${mean.toFixed(3)}; most in ${most.join(", ")}.`;
    }
    function ranked(n) {
      const [, change] = shown.means;
      const main = data.regions.map((r, i) => i + 1).filter((label) => data.regions[label - 1].main && sizes[label]);
      return main.sort((a, b) => Math.abs(change[b]) - Math.abs(change[a])).slice(0, n);
    }

    function drawTable() {
      const held = document.activeElement && table.contains(document.activeElement);
      if (held || table.matches(":hover")) {
        // The rows stay under the pointer or the focus; only their numbers follow.
        for (const row of table.rows) fillRow(row, Number(row.dataset.label));
        return;
      }
      table.replaceChildren(...ranked(6).map((label) => {
        const name = element("button", { type: "button", class: "lx-name", title: data.regions[label - 1].name }, nameOf(label));
        const point = (on) => () => pointAt(on ? label : 0);
        name.onfocus = name.onmouseenter = point(true);
        name.onblur = name.onmouseleave = point(false);
        const row = element("tr", {}, element("th", { scope: "row" }, name), element("td"), element("td"));
        row.dataset.label = label;
        fillRow(row, label);
        return row;
      }));
    }
    function fillRow(row, label) {
      row.cells[1].textContent = shown.means[0][label].toFixed(3);
      row.cells[2].textContent = signed(shown.means[1][label], 3);
    }

    function draw() {
      if (!ready()) return;
      shown.means = means();
      paint(views[0].pixels, shown.image, 0, data.white, GREYS);
      const change = shown.image.map((v, i) => v - shown.startImage[i]);
      const beyond = (limit) => change.reduce((n, v) => (v > limit || -v > limit ? n + 1 : n), 0);
      const limit = LIMITS.find((l) => beyond(l) <= 0.002 * change.length) || 1;
      paint(views[1].pixels, change, -limit, limit, DIVERGING);
      ["−" + limit, "difference of brightness", "+" + limit].forEach((t, i) => (changeEnds[i].textContent = t));
      drawTable();
      if (!tip.hidden) tell();
      root.dispatchEvent(new Event("drawn"));
    }

    // What a screen reader is told, and the address: once nothing has changed for a while.
    function settle() {
      clearTimeout(quiet);
      quiet = setTimeout(() => {
        if (state.playing) return;
        if (touched) writeAddress();
        if (!ready()) return settle();
        const text = summary();
        views[0].pixels.setAttribute("aria-label", `Decoded section: ${inWords()}.`);
        views[1].pixels.setAttribute("aria-label", `Difference from the start. ${text}`);
        if (status.textContent !== notice + text) status.textContent = notice + text;
      }, QUIET);
    }
    function inWords() {
      const moved = state.z.map((v, k) => [k, v]).filter(([k, v]) => Math.abs(v - starts.get(state.start).code[k]) > 5e-4);
      const where = moved.length ? moved.map(([k, v]) => `F${k + 1} ${minus(v.toFixed(2))}`).join(", ") : "nothing moved";
      return `start ${starts.get(state.start).name}; ${where}`;
    }

    // -- regions under the pointer --

    function pointAt(label) {
      if (label === region) return;
      region = label;
      drawOutlines();
    }
    function tell() {
      const [value, change] = shown.means;
      tip.replaceChildren(element("strong", {}, nameOf(region)),
        element("span", {}, `mean brightness ${value[region].toFixed(3)}`), element("span", {}, `difference ${signed(change[region], 3)}`));
    }
    function hover(event, view) {
      const box = view.stack.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      const inside = x >= 0 && x < 1 && y >= 0 && y < 1;
      const label = inside ? labels[Math.floor(y * height) * width + Math.floor(x * width)] : 0;
      pointAt(label);
      tip.hidden = !label || !ready();
      if (tip.hidden) return;
      tell();
      const frame = tip.parentElement.getBoundingClientRect();
      const left = Math.min(event.clientX - frame.left + 14, frame.width - tip.offsetWidth - 4);
      tip.style.left = `${Math.max(4, left)}px`;
      tip.style.top = `${event.clientY - frame.top + 18}px`;
    }
    function leave() {
      tip.hidden = true;
      pointAt(0);
    }
    for (const view of views) {
      view.stack.onpointermove = view.stack.onpointerdown = (event) => hover(event, view);
      view.stack.onpointerleave = leave;
    }

    // -- state --

    const engine = makeEngine(layers, offset, (tag, z, image, ms) => {
      if (tag === "start") {
        if (String([...z]) !== String(starts.get(state.start).code)) return;
        [shown.startImage, shown.start] = [image, state.start];
        paint(originals[1].firstChild, image, 0, data.white, GREYS);
      } else {
        [shown.image, shown.z] = [image, Array.from(z)];
      }
      shown.ms = ms;
      sayWhence();
      draw();
    });

    function sayWhence() {
      const of = data.simulated ? "simulated brains" : "brains";
      const took = shown.ms === null ? "" : ` One section takes ${Math.max(1, Math.round(shown.ms))} ms in this browser.`;
      source.textContent = `${data.model}, run ${data.run}; ${of}: cohort ${data.cohort}; ${height} × ${width} pixels of ${data.pixel_um} µm. `
        + `What it paints: variance around the code of ${data.from}, full colour at ${data.scales.map((s) => s.toPrecision(2)).join(", ")} (squared grey values). `
        + `What moves it: ${data.readers} clean test brains, darkest against brightest.${took}`;
    }
    function move(k, value) {
      state.z[k] = milli(value);
      showSlider(k);
      engine.wish("now", state.z);
      settle();
    }
    function showSlider(k) {
      const { input, output, row, mark, at } = rows[k];
      const text = minus(state.z[k].toFixed(2));
      input.value = state.z[k];
      output.textContent = text;
      input.setAttribute("aria-valuetext", `F${k + 1}, ${minus(String(Math.round(state.z[k] * 100) / 100))} prior standard deviations`);
      mark.style.left = `${at(starts.get(state.start).code[k])}%`;
      row.classList.toggle("lx-moved", Math.abs(state.z[k] - starts.get(state.start).code[k]) > 5e-4);
    }
    function takeUp(k) {
      if (state.playing) return; // what plays stays in hand
      state.latent = k;
      showFields(k);
      sayPlay();
    }
    function showFields(k) {
      rows.forEach((r, i) => r.row.classList.toggle("lx-hand", i === k));
      const latent = data.latents[k];
      handTitle.textContent = `F${k + 1}${k === state.latent ? ", the latent in hand" : ""}${latent.active ? "" : ": inactive in this fit"}`;
      field.src = latent.projective;
      const most = data.rois.map((r, i) => [latent.receptive[i], r.acronym]).sort((a, b) => b[0] - a[0])[0];
      field.alt = `Projective field of F${k + 1}: the pixels that change while it moves over ±${data.limit}.`;
      bars.forEach(({ fill, value }, i) => {
        // Shifts, as in chapter 7: √ tames what spans four orders of magnitude.
        fill.style.width = `${100 * Math.sqrt(latent.receptive[i] / strongest)}%`;
        fill.classList.toggle("lx-most", data.rois[i].acronym === most[1]);
        value.textContent = latent.receptive[i] < 0.01 ? "< 0.01" : latent.receptive[i].toFixed(2);
      });
    }
    function sayPlay() {
      play.textContent = `${state.playing ? "Pause" : "Play"} F${state.latent + 1}`;
      play.classList.toggle("lx-on", state.playing);
    }
    function begin(id, z) {
      const one = starts.get(id);
      state.start = select.value = id;
      state.z = Array.from(z || one.code);
      shown.startImage = shown.image = null;
      rows.forEach((_, k) => showSlider(k));
      originals[0].hidden = !one.pixels;
      originals[1].lastChild.textContent = one.pixels ? "Reconstruction" : "Decoded";
      originals[0].firstChild.setAttribute("aria-label", `Section of brain ${one.name}`);
      originals[1].firstChild.setAttribute("aria-label", `${originals[1].lastChild.textContent} section of the start, ${one.name}`);
      captions[1].textContent = `Difference from ${one.pixels ? "the reconstruction" : id === "prior" ? "the prior mean" : "the mean code"}`;
      startNote.textContent = one.pixels
        ? one.fault ? `A brain with a ${one.fault}: compare the two for what the model did not paint back.` : "A test brain, not seen in training, and what the model makes of its code."
        : id === "prior" ? "Where the prior has its centre. The bands show how far the brains are from it." : "No brain of its own: the average of the codes.";
      if (one.pixels) {
        paint(originals[0].firstChild, bytes(one.pixels), 0, 255 * data.white, GREYS);
      }
      engine.wish("start", one.code);
      engine.wish("now", state.z);
      settle();
    }

    // -- play --

    let clock = null;
    function setPlaying(on) {
      [touched, notice] = [true, ""];
      if (on === state.playing) return;
      state.playing = on;
      clearTimeout(clock);
      sayPlay();
      if (!on) return settle();
      let [direction, last] = [1, performance.now()];
      const tick = () => {
        const now = performance.now();
        // Where motion is not wanted: one step a second, not a glide.
        const by = still.matches ? 1 : (SPEED * Math.min(now - last, 200)) / 1000;
        last = now;
        let next = state.z[state.latent] + direction * by;
        if (Math.abs(next) >= data.limit) {
          direction = -Math.sign(next);
          next = -direction * data.limit;
        }
        move(state.latent, next);
        clock = setTimeout(tick, still.matches ? 1000 : 33);
      };
      clock = setTimeout(tick, 0);
    }

    // -- links --

    function hashOf() {
      const parts = [`start=${encodeURIComponent(state.start)}`];
      if (state.z.some((v, k) => v !== starts.get(state.start).code[k])) parts.push(`z=${state.z.join(",")}`);
      return `#${parts.join("&")}&latent=${state.latent + 1}&fit=${fit}`;
    }
    function writeAddress() {
      try {
        history.replaceState(null, "", hashOf());
      } catch {
        // Some browsers allow no history to pages from disk; Copy link still works.
      }
    }
    function readAddress() {
      const given = new URLSearchParams(location.hash.slice(1));
      if (!given.has("start")) return false;
      const z = given.has("z") ? given.get("z").split(",").map(Number) : null;
      const k = Number(given.get("latent") || 1);
      if (given.get("fit") !== fit || !starts.has(given.get("start"))) {
        notice = "That link belongs to another fit, whose latents are not these. ";
        return false;
      }
      if ((z && (z.length !== latentDim || !z.every(Number.isFinite))) || !(k >= 1 && k <= latentDim)) {
        notice = "That link is incomplete, so the explorer starts anew. ";
        return false;
      }
      const { code } = starts.get(given.get("start"));
      const inside = (v, i) => Math.max(-Math.max(data.limit, -code[i]), Math.min(Math.max(data.limit, code[i]), milli(v)));
      setPlaying(false);
      begin(given.get("start"), z && z.map(inside));
      takeUp(Math.floor(k) - 1);
      return true;
    }

    // -- hands on --

    rows.forEach(({ row, input }, k) => {
      input.oninput = () => {
        setPlaying(false);
        takeUp(k);
        move(k, Number(input.value));
      };
      input.onfocus = () => takeUp(k);
      // Only a look: on its way to the buttons the pointer passes other latents.
      row.onpointerenter = (event) => event.pointerType === "mouse" && !event.buttons && showFields(k);
    });
    sliders.onpointerleave = () => showFields(state.latent);
    select.onchange = () => {
      setPlaying(false);
      begin(select.value);
    };
    reset.onclick = () => {
      setPlaying(false);
      begin(state.start);
    };
    play.onclick = () => setPlaying(!state.playing);
    outlines.onchange = drawOutlines;
    link.onclick = async () => {
      setPlaying(false);
      clearTimeout(quiet); // what is told next is that it was copied
      writeAddress();
      address.value = location.href.split("#")[0] + hashOf();
      try {
        await navigator.clipboard.writeText(address.value);
        status.textContent = "Link copied.";
        quiet = setTimeout(settle, 3000);
      } catch {
        address.hidden = false;
        address.select();
        status.textContent = "Copy the link from the field beside the buttons.";
      }
    };
    window.addEventListener("hashchange", readAddress);

    sayWhence();
    takeUp(0);
    drawOutlines();
    if (!readAddress()) begin("prior");

    let decoder = null;
    window.brainvaeExplorer = {
      decode: (z) => (decoder = decoder || makeDecoder(layers, offset))(z),
      get state() {
        return { ...state, z: state.z.slice(), region, shown: { ...shown } };
      },
    };
  }

  const root = document.getElementById("lx-root");
  const data = window.brainvaeExplorerData;
  if (root && data && data.format === 1) explore(root, data);
  else if (root) {
    root.textContent = data
      ? "The decoder in _static/explorer_data.js is of another version than this page: run make book, which writes both."
      : "There is no decoder beside this page (_static/explorer_data.js): run make book, which fits the model and writes it.";
  }
})();
