/* The latent explorer: encoders and decoders in WebAssembly, and the page around them.

   One classic script without modules, network or other people's code, so that the page works when it
   is opened from disk. What it shows comes from explorer_data.js (brainvae_core/explorer.py). */
(function () {
  "use strict";

  // ---- the models: need nothing around them, for their text is also the worker's ----

  function makeModels(data) {
    const SIMD = { load: 0x00, splat: 0x09, store: 0x0b, zero: 0x0c, add: 0xe4, multiply: 0xe6, max: 0xe9 };

    // A WebAssembly function (x, w, b, y: addresses) of all output channels at some neighbouring
    // pixels, so that they share each weight they load; weights and channels come in fours.
    function kernel({ pixels, step, pitch, rows, run, lanes, stride, rectified }, memory) {
      const unsigned = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >>> 7)]);
      const signed = (n) => (n >= -64 && n < 64 ? [n & 127] : [(n & 127) | 128, ...signed(n >> 7)]);
      const [get, set] = [0x20, 0x21].map((op) => (local) => [op, local]);
      const simd = (name, offset) => [0xfd, unsigned(SIMD[name]), offset === undefined ? [] : [2, unsigned(offset)]];
      const forward = (local, by) => [get(local), 0x41, signed(by), 0x6a, set(local)];
      const again = (local, ...end) => [get(local), end, 0x49, 0x0d, 0]; // where it is less than the end
      const loop = (...body) => [0x03, 0x40, body, 0x0b];
      const [x, w, b, y, lane, from, row, stop, weight, sums] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
      const each = (n, f) => Array.from({ length: n }, (_, i) => f(i));
      const unrolled = [8, 4, 2, 1].find((n) => run % n === 0);
      const code = loop(
        each(pixels, (i) => [get(b), simd("load", 0), set(sums + i)]),
        [get(x), set(from), 0x41, 0, set(row)],
        loop(
          [get(from), 0x41, signed(4 * run), 0x6a, set(stop)],
          loop(
            each(unrolled, (t) => [
              [get(w), simd("load", 16 * t), set(weight)],
              each(pixels, (i) => [
                [get(from), simd("splat", 4 * (i * step + t)), get(weight), simd("multiply")],
                [get(sums + i), simd("add"), set(sums + i)],
              ]),
            ]),
            [forward(w, 16 * unrolled), forward(from, 4 * unrolled), again(from, get(stop))]
          ),
          [forward(from, 4 * (pitch - run)), forward(row, 1), again(row, 0x41, signed(rows))]
        ),
        each(pixels, (i) => [
          [get(y), get(sums + i), rectified ? [simd("zero"), Array(16).fill(0), simd("max")] : []],
          simd("store", 4 * i * stride),
        ]),
        [forward(b, 16), forward(y, 16), forward(lane, 4), again(lane, 0x41, signed(lanes))]
      );
      const counted = (...content) => [unsigned(content.flat(Infinity).length), content];
      const name = counted(109); // "m"
      const module = [
        [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
        [1, counted(1, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 0)], // a function of four addresses
        [2, counted(1, name, name, 2, 0, 0)], // the memory
        [3, counted(1, 0), 7, counted(1, name, 0, 0)],
        [10, counted(1, counted(2, 4, 0x7f, 1 + pixels, 0x7b, code, 0x0b))],
      ];
      const bytes = Uint8Array.from(module.flat(Infinity));
      return new WebAssembly.Instance(new WebAssembly.Module(bytes), { m: { m: memory } }).exports.m;
    }

    // Signals are channels last, so that a row of taps is one run of memory.
    function makeNetwork(layers, size) {
      let floats = 0; // of the memory, as it is laid out
      const room = (n) => (floats += Math.ceil(n / 16) * 16 + 16) - Math.ceil(n / 16) * 16 - 16;
      const steps = []; // made when there is a memory
      const input = room(size.h * size.w * size.c);
      let signal = { ...size, at: input, pitch: size.w * size.c };

      // A transposed convolution is a convolution of blocks of stride × stride pixels: the pixels of
      // a block's row are channels, its rows are banks of weights.
      function convolution(layer) {
        const { stride: s, shape, rectified } = layer;
        const up = layer.kind === "upsampling";
        const [before, after, ky, kx] = up ? shape : [shape[1], shape[0], shape[2], shape[3]];
        const [rows, taps] = up ? [ky / s, kx / s] : [ky, kx];
        const [pad, crop] = up ? [rows - 1, layer.padding] : [layer.padding, 0];
        const { h, w, c } = signal;
        const side = (n, k) => (up ? (n - 1) * s - 2 * crop + k : Math.floor((n + 2 * pad - k) / s) + 1);
        const out = { h: side(h, ky), w: side(w, kx), c: after };
        const channels = up ? s * after : after;
        const [lanes, banks, step] = [Math.ceil(channels / 4) * 4, up ? s : 1, up ? before : s * before];
        const count = up ? w + pad : out.w;
        const [run, pixels, pitch] = [taps * before, Math.min(6, count), (w + 2 * pad) * c];
        const [source, target] = [signal, { at: room(out.h * count * channels), pitch: count * channels }];
        const [padded, bias] = [pad ? room((h + 2 * pad) * pitch) : source.at, room(lanes)];
        const weights = room(banks * lanes * rows * run);
        signal = { ...out, at: target.at + crop * after, pitch: target.pitch };
        steps.push((memory, all) => {
          let to = weights;
          for (let bank = 0; bank < banks; bank++)
            for (let four = 0; four < lanes; four += 4)
              for (let row = 0; row < rows; row++)
                for (let t = 0; t < taps; t++)
                  for (let from = 0; from < before; from++)
                    for (let lane = four; lane < four + 4; lane++, to++) {
                      if (lane >= channels) continue;
                      const o = lane % after;
                      const ty = up ? s * (rows - 1 - row) + bank : row;
                      const tx = up ? s * (taps - 1 - t) + Math.floor(lane / after) : t;
                      all[to] = layer.weights[((up ? from * after + o : o * before + from) * ky + ty) * kx + tx];
                    }
          for (let lane = 0; lane < channels; lane++) all[bias + lane] = layer.bias[lane % after];
          const f = kernel({ pixels, step, pitch, rows, run, lanes, stride: channels, rectified }, memory);
          return () => {
            if (pad)
              for (let y = 0; y < h; y++) {
                const from = source.at + y * source.pitch;
                all.copyWithin(padded + (y + pad) * pitch + pad * c, from, from + w * c);
              }
            for (let y = 0; y < out.h; y++) {
              const [row, bank] = up ? [Math.floor((y + crop) / s), (y + crop) % s] : [y * s, 0];
              const bank0 = weights + bank * lanes * rows * run;
              // A last block that would overhang starts earlier.
              for (let i = 0; i < count; i += pixels) {
                const k = Math.min(i, count - pixels);
                f(4 * (padded + row * pitch + k * step), 4 * bank0, 4 * bias, 4 * (target.at + y * target.pitch + k * channels));
              }
            }
          };
        });
      }

      // PyTorch's order is (channels, height, width).
      function reordered(out, { h, w, c }, last) {
        const [from, to] = [signal.at, room(h * w * c)];
        signal = { ...out, at: to, pitch: out.w * out.c };
        steps.push((_, all) => () => {
          for (let k = 0, i = 0; k < c; k++)
            for (let at = 0; at < h * w; at++, i++) {
              if (last) all[to + at * c + k] = all[from + i];
              else all[to + i] = all[from + at * c + k];
            }
        });
      }

      for (const layer of layers) {
        if (layer.kind === "reshape") {
          const [c, h, w] = layer.shape;
          reordered({ h, w, c }, { h, w, c }, true);
        } else if (layer.kind === "flatten") reordered({ h: 1, w: 1, c: signal.h * signal.w * signal.c }, signal, false);
        else convolution(layer);
      }
      const memory = new WebAssembly.Memory({ initial: Math.ceil(floats / 16384) });
      const all = new Float32Array(memory.buffer);
      const made = steps.map((make) => make(memory, all));
      return (values) => {
        all.set(values, input);
        for (const step of made) step();
        const { at, h, w, c, pitch } = signal;
        const found = new Float32Array(h * w * c);
        for (let y = 0; y < h; y++) found.set(all.subarray(at + y * pitch, at + y * pitch + w * c), y * w * c);
        return found;
      };
    }

    function vae({ decoder, encoder, offset, mean, scale, typical }) {
      const [h, w] = data.shape;
      const decoded = makeNetwork(decoder, { h: 1, w: 1, c: typical.length });
      let encoded = null; // made when it is first asked for
      return {
        decode(z) {
          const image = decoded(z);
          for (let i = 0; i < image.length; i++) image[i] = 1 / (1 + Math.exp(-(image[i] + offset[i])));
          return image;
        },
        encode(image) {
          encoded = encoded || makeNetwork(encoder, { h, w, c: 1 });
          return encoded(image.map((x, i) => (x - mean[i]) / scale));
        },
      };
    }

    function pca({ mean, components, steps, variances }) {
      return {
        decode(z) {
          const image = Float32Array.from(mean);
          steps.forEach((step, k) => {
            const by = z[k] * step;
            for (let i = 0, at = k * mean.length; i < image.length; i++) image[i] += by * components[at + i];
          });
          return image;
        },
        encode: (image) =>
          Float32Array.from(steps, (step, k) => {
            let sum = 0;
            for (let i = 0, at = k * mean.length; i < image.length; i++) sum += (image[i] - mean[i]) * components[at + i];
            return (sum * step) / variances[k];
          }),
      };
    }

    const made = [];
    return (k) => (made[k] = made[k] || (data.models[k].decoder ? vae : pca)(data.models[k]));
  }

  const answer = (model, { z, image }) => (z ? model.decode(z) : model.encode(image));

  // Works beside the page where the browser lets a page from disk have a worker, else in it. Of each
  // kind of wish only the latest is kept, and they come in this order: dragging never makes a queue.
  const WISHES = ["start", "now", "before", "after"];
  function makeEngine(data, done, failed) {
    const wishes = new Map();
    let [worker, models, job] = [null, null, null];
    function finish(result, ms) {
      const finished = job;
      job = null;
      done(finished, result, ms);
      pump();
    }
    function here() {
      try {
        models = models || makeModels(data);
        const begun = performance.now();
        const result = answer(models(job.model), job);
        finish(result, performance.now() - begun);
      } catch (error) {
        failed(error);
      }
    }
    function pump() {
      const next = !job && WISHES.find((kind) => wishes.has(kind));
      if (!next) return;
      job = wishes.get(next);
      wishes.delete(next);
      if (worker) worker.postMessage(job);
      else setTimeout(here, 0);
    }
    function withoutWorker() {
      if (!worker) return;
      worker = null;
      if (job) setTimeout(here, 0);
    }
    function workerMain() {
      let models = null;
      self.onmessage = ({ data }) => {
        if (data.models) return void (models = makeModels(data));
        const begun = performance.now();
        const result = answer(models(data.model), data);
        self.postMessage({ result, ms: performance.now() - begun }, [result.buffer]);
      };
    }
    try {
      const text = `${makeModels}\nconst answer = ${answer};\n(${workerMain})();`;
      worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
      worker.onmessage = ({ data }) => worker && finish(data.result, data.ms);
      worker.onerror = withoutWorker;
      worker.postMessage({ models: data.models, shape: data.shape });
    } catch {
      worker = null;
    }
    return (kind, wish) => {
      wishes.set(kind, { ...wish, kind });
      pump();
    };
  }

  // ---- colours and words ----

  // ColorBrewer's RdBu, blue first: told apart with every kind of colour vision.
  const RDBU = ["053061", "2166ac", "4393c3", "92c5de", "d1e5f0", "ffffff", "fddbc7", "f4a582", "d6604d", "b2182b", "67001f"];
  const LIMITS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]; // of the difference's colours, grey values
  const BARS = [5, 2, 1, 0.5, 0.2, 0.1, 0.05]; // mm
  const SPEED = 2; // prior standard deviations a second, when a latent plays
  const QUIET = 300; // ms without a change until it is encoded, told and written to the address
  const MOST = 50; // per cent that a region is made brighter or darker

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
  const clamp = (x, most) => Math.max(-most, Math.min(most, x));
  const plain = (name) => name.replaceAll("_", " ");

  // What 16 bits are as a number.
  const HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
    const power = (bits >> 10) & 31;
    const part = bits & 1023;
    return (bits >> 15 ? -1 : 1) * (power ? 2 ** (power - 15) * (1 + part / 1024) : 2 ** -24 * part);
  });

  // A text of the data as numbers: its type, a colon, base64. Half precision becomes single.
  function array(text) {
    const raw = atob(text.slice(3));
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    const kind = { u1: Uint8Array, u2: Uint16Array, f2: Uint16Array, i1: Int8Array, f4: Float32Array }[text.slice(0, 2)];
    const numbers = new kind(bytes.buffer);
    return text.startsWith("f2") ? new Float32Array(numbers.length).map((_, i) => HALF[numbers[i]]) : numbers;
  }

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

  function explore(root, given) {
    const arrays = given.arrays.map(array);
    const named = (part, ...names) => ({ ...part, ...Object.fromEntries(names.filter((n) => n in part).map((n) => [n, arrays[part[n]]])) });
    const layersOf = (layers) => layers && layers.map((layer) => named(layer, "weights", "bias"));
    const data = {
      ...named(given, "labels"),
      models: given.models.map((m) => ({ ...named(m, "offset", "mean", "components"), decoder: layersOf(m.decoder), encoder: layersOf(m.encoder) })),
      brains: given.brains.map((b) => named(b, "pixels")),
      rois: given.rois.map((r) => named(r, "mask")),
    };
    const { labels, limit, fit } = data;
    const [height, width] = data.shape;
    const latentDim = data.models[0].typical.length;
    const still = window.matchMedia("(prefers-reduced-motion: reduce)");
    const sizes = new Uint32Array(data.regions.length + 1);
    for (const label of labels) sizes[label]++;
    const TYPICAL = { id: "typical", name: "Typical brain (median code)" };
    const starts = new Map([TYPICAL, ...data.brains.map((b) => ({ ...b, name: `${b.id}: ${b.fault || "clean"}` }))].map((s) => [s.id, s]));

    const state = { model: 0, start: TYPICAL.id, z: data.models[0].typical, latent: 0, playing: false, roi: 0, by: 0 };
    const shown = { key: null, z: null, image: null, startKey: null, startImage: null, ms: null };
    const codes = { of: null, before: null, after: null, by: null };
    let region = 0; // the one pointed at; 0 is none
    let quiet = null;
    let touched = false; // an address that nobody asked for would take the place of one that leads here
    let notice = "";
    const model = () => data.models[state.model];
    const startCode = () => (state.start === TYPICAL.id ? model().typical : model().codes[data.brains.findIndex((b) => b.id === state.start)]);
    const nameOfLatent = (k) => (model().decoder ? `F${k + 1}` : `PC${k + 1}`);
    const key = () => `${state.model} ${state.start}`;
    const ready = () => shown.key === key() && shown.startKey === key();

    // -- what stands there --

    const canvas = (name) => element("canvas", { width, height, class: "lx-pixels", role: "img", "aria-label": name });
    const small = (name) => element("figure", { class: "lx-small" }, canvas(name), element("figcaption", {}, name));
    const option = (value, name) => element("option", { value }, name);
    const labelled = (text, ...controls) => element("span", { class: "lx-labelled" }, element("label", { htmlFor: controls[0].id }, text), ...controls);
    const modelSelect = element("select", { id: "lx-model" }, ...data.models.map((m, k) => option(k, m.name)));
    const select = element("select", { id: "lx-start" }, ...[...starts.values()].map((s) => option(s.id, s.name)));
    const roiSelect = element("select", { id: "lx-region" }, ...data.rois.map((r, k) => option(k, r.acronym.toLowerCase() === r.name.toLowerCase() ? r.name : `${r.acronym} · ${r.name}`)));
    const button = (text) => element("button", { type: "button", class: "lx-button" }, text);
    const [typical, reset, play, link] = [button("Typical brain"), button("Back to the start"), button("Play F1"), button("Copy link")];
    const outlines = element("input", { type: "checkbox", id: "lx-outlines", checked: true });
    const address = element("input", { class: "lx-address", readOnly: true, hidden: true, "aria-label": "Link to this state" });

    const fine = Math.max(2, Math.round(896 / width)); // pixels of an outline's canvas in one of the section
    const views = ["Decoded section", "Difference from the start"].map((name) => {
      const over = element("canvas", { class: "lx-over", width: width * fine, height: height * fine, "aria-hidden": "true" });
      const pixels = canvas(name);
      return { pixels, over, stack: element("div", { class: "lx-stack" }, pixels, over) };
    });
    const tip = element("div", { class: "lx-tip", hidden: true, "aria-hidden": "true" });
    const wide = (width * data.pixel_um) / 1000;
    const bar = BARS.find((mm) => mm <= 0.2 * wide) || BARS[BARS.length - 1];
    views[0].stack.append(element("span", { class: "lx-ruler", style: `width:${(100 * bar) / wide}%` }, bar < 1 ? `${bar * 1000} µm` : `${bar} mm`));
    const colourKey = (gradient, ...texts) =>
      element("div", { class: "lx-key" }, element("div", { class: "lx-ramp", style: `background:linear-gradient(to right,${gradient})` }),
        element("div", { class: "lx-ends" }, ...texts.map((t) => element("span", {}, t))));
    const greyKey = colourKey("#000,#fff", "0", "brightness", data.white.toFixed(2));
    const changeKey = colourKey(RDBU.map((c) => "#" + c).join(), "", "", "");
    const changeEnds = changeKey.querySelectorAll("span");
    const figures = views.map((view, i) =>
      element("figure", { class: "lx-figure" }, element("figcaption", {}, ["Decoded section", "Difference from the start"][i]), view.stack, [greyKey, changeKey][i]));

    const at = (x) => 50 + (50 * clamp(x, limit)) / limit;
    const span = (name) => element("span", { class: name });
    const rows = model().typical.map((_, k) => {
      const id = `lx-f${k + 1}`;
      const input = element("input", { type: "range", id, min: -limit, max: limit, step: 0.1, value: 0, "aria-describedby": `${id}-note` });
      const [label, output, band, mark] = [element("label", { htmlFor: id }), element("output", { htmlFor: id }, "0.00"), span("lx-band"), span("lx-mark")];
      const [note, told] = [element("span", { class: "lx-note" }), span("lx-hidden")];
      const track = element("span", { class: "lx-track" }, element("span", { class: "lx-rail" }, band, mark), input);
      const row = element("div", { class: "lx-row" }, label, track, output, element("span", { class: "lx-follows", id: `${id}-note` }, note, told));
      return { row, input, output, label, band, mark, note, told };
    });
    const scale = [-limit, 0, limit].map((t) => element("span", {}, signed(t, 0)));
    const sliders = element("fieldset", { class: "lx-sliders" },
      element("legend", {}, "Latents ", element("span", {}, "prior standard deviations")),
      ...rows.map((r) => r.row),
      element("div", { class: "lx-row", "aria-hidden": "true" }, span(), element("span", { class: "lx-ends" }, ...scale)),
      element("p", { class: "lx-note", "aria-hidden": "true" },
        span("lx-swatch"), `95 % of ${data.n_test} unsuspected test brains; `, span("lx-tick"), "the start"));

    const by = element("input", { type: "range", id: "lx-by", min: -MOST, max: MOST, step: 5, value: 0 });
    const byOutput = element("output", { htmlFor: "lx-by" }, "0 %");
    const seen = small("What the encoder reads");
    const table = (heads, caption) => {
      const body = element("tbody");
      const head = element("thead", {}, element("tr", {}, ...heads.map((t) => element("th", { scope: "col" }, t))));
      return [element("table", { class: "lx-table" }, element("caption", { class: "lx-hidden" }, caption), head, body), body];
    };
    const [codeTable, codeBody] = table(["Latent", "Codes", "Before", "After"], "Codes before and after, in prior standard deviations");
    const codeRows = rows.map(() => {
      const [name, before, after] = [element("th", { scope: "row" }), element("td"), element("td")];
      const bars = [span("lx-before"), span("lx-after")];
      codeBody.append(element("tr", {}, name, element("td", { class: "lx-bars", "aria-hidden": "true" }, element("span", { class: "lx-axis" }, ...bars)), before, after));
      return { name, before, after, bars };
    });
    const otherPanel = element("section", { class: "lx-panel lx-other" }, element("h2", {}, "The other direction: change a region, read the codes"),
      element("div", { class: "lx-tools" }, labelled("Region", roiSelect), labelled("Brightness", by, byOutput)),
      element("div", { class: "lx-pair" }, seen, codeTable));
    codeTable.classList.add("lx-codes");
    const [changeTable, changes] = table(["Region", "Brightness", "Difference"], "Largest changes of regions");
    const tablePanel = element("section", { class: "lx-panel" }, element("h2", {}, "Largest changes"), changeTable);
    const originals = [small("Brain"), small("Reconstruction")];
    const startNote = element("p", { class: "lx-note" });
    const startPanel = element("section", { class: "lx-panel" }, element("h2", {}, "Start"), element("div", { class: "lx-pair" }, ...originals), startNote);
    const status = element("p", { class: "lx-status", role: "status" });
    const source = element("p", { class: "lx-source" });

    root.replaceChildren(
      element("div", { class: "lx-tools" }, labelled("Model", modelSelect), labelled("Start from", select), typical, reset, play, link,
        labelled("Outlines", outlines), address),
      element("div", { class: "lx-main" }, element("div", { class: "lx-figures" }, ...figures, tip), sliders),
      status,
      element("div", { class: "lx-panels" }, otherPanel, element("div", {}, tablePanel, startPanel)),
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
      const by = last / (high - low);
      for (let i = 0; i < pixels.length; i++) {
        const at = ((values[i] - low) * by + 0.5) | 0;
        pixels[i] = colours[at < 0 ? 0 : at > last ? last : at];
      }
      context.putImageData(image, 0, 0);
    }

    // Borders between pixels of different regions, as lines of a finer canvas.
    function paths(belongs) {
      const path = new Path2D();
      for (let y = 0, i = 0; y < height; y++)
        for (let x = 0; x < width; x++, i++) {
          const here = belongs(labels[i]);
          if (x + 1 < width && belongs(labels[i + 1]) !== here) {
            path.moveTo(fine * (x + 1), fine * y);
            path.lineTo(fine * (x + 1), fine * (y + 1));
          }
          if (y + 1 < height && belongs(labels[i + width]) !== here) {
            path.moveTo(fine * x, fine * (y + 1));
            path.lineTo(fine * (x + 1), fine * (y + 1));
          }
        }
      return path;
    }
    const borders = paths((label) => label);
    function drawOutlines() {
      const own = region ? paths((label) => label === region) : null;
      views.forEach(({ over }, i) => {
        const context = over.getContext("2d");
        context.clearRect(0, 0, over.width, over.height);
        context.lineCap = "square";
        const stroke = (path, style, lineWidth) => {
          Object.assign(context, { strokeStyle: style, lineWidth: (lineWidth * over.width) / 896 });
          context.stroke(path);
        };
        if (outlines.checked) stroke(borders, i ? "rgba(0,0,0,.38)" : "rgba(255,255,255,.42)", 1.6);
        if (own) {
          stroke(own, "#000", 8);
          stroke(own, "#ffb000", 4.5);
        }
      });
    }

    // -- numbers --

    const nameOf = (label) => {
      const { acronym, name } = data.regions[label - 1];
      return acronym.toLowerCase() === name.toLowerCase() ? name : `${acronym} · ${name}`;
    };
    function ranked(n) {
      const main = data.regions.map((r, i) => i + 1).filter((label) => data.regions[label - 1].main && sizes[label]);
      return main.sort((a, b) => Math.abs(shown.changes[b]) - Math.abs(shown.changes[a])).slice(0, n);
    }
    function summary() {
      if (shown.moved < 5e-5) return "No difference from the start.";
      const most = ranked(3).map((label) => `${data.regions[label - 1].acronym} ${signed(shown.changes[label], 3)}`);
      return `Mean absolute difference in the brain ${shown.moved.toFixed(3)}; most in ${most.join(", ")}.`;
    }

    function drawTable() {
      const held = document.activeElement && changes.contains(document.activeElement);
      if (held || changes.matches(":hover")) {
        // The rows stay under the pointer or the focus; only their numbers follow.
        for (const row of changes.rows) fillRow(row, Number(row.dataset.label));
        return;
      }
      changes.replaceChildren(...ranked(6).map((label) => {
        const name = element("button", { type: "button", class: "lx-name", title: data.regions[label - 1].name }, nameOf(label));
        name.onfocus = name.onmouseenter = () => pointAt(label);
        name.onblur = name.onmouseleave = () => pointAt(0);
        const row = element("tr", {}, element("th", { scope: "row" }, name), element("td"), element("td"));
        row.dataset.label = label;
        fillRow(row, label);
        return row;
      }));
    }
    function fillRow(row, label) {
      row.cells[1].textContent = shown.means[label].toFixed(3);
      row.cells[2].textContent = signed(shown.changes[label], 3);
    }

    function draw() {
      if (!ready()) return;
      const { image, startImage } = shown;
      const change = new Float32Array(image.length);
      const [means, changes, counts] = [new Float64Array(sizes.length), new Float64Array(sizes.length), new Uint32Array(101)];
      let moved = 0;
      for (let i = 0; i < image.length; i++) {
        const by = (change[i] = image[i] - startImage[i]);
        const label = labels[i];
        const size = by < 0 ? -by : by;
        means[label] += image[i];
        changes[label] += by;
        if (label) moved += size;
        counts[Math.min(100, size * 100) | 0]++;
      }
      sizes.forEach((n, label) => {
        means[label] /= n || 1;
        changes[label] /= n || 1;
      });
      Object.assign(shown, { means, changes, moved: moved / (image.length - sizes[0] || 1) });
      paint(views[0].pixels, image, 0, data.white, GREYS);
      const beyond = (limit) => counts.subarray(Math.round(100 * limit)).reduce((a, b) => a + b);
      const most = LIMITS.find((limit) => beyond(limit) <= 0.002 * image.length) || 1;
      paint(views[1].pixels, change, -most, most, DIVERGING);
      ["−" + most, "difference of brightness", "+" + most].forEach((t, i) => (changeEnds[i].textContent = t));
      drawTable();
      if (!tip.hidden) tell();
      root.dispatchEvent(new Event("drawn"));
    }

    // What is encoded, what a screen reader is told, and the address: once nothing has changed for a while.
    function settle() {
      clearTimeout(quiet);
      quiet = setTimeout(() => {
        if (state.playing) return;
        if (touched) writeAddress();
        if (!ready()) return settle();
        if (codes.of !== shown.image) read();
        const text = summary();
        views[0].pixels.setAttribute("aria-label", `Decoded section: ${inWords()}.`);
        views[1].pixels.setAttribute("aria-label", `Difference from the start. ${text}`);
        say(notice + text);
      }, QUIET);
    }
    const say = (text) => status.textContent !== text && (status.textContent = text);
    function inWords() {
      const moved = state.z.map((v, k) => [k, v]).filter(([k, v]) => Math.abs(v - startCode()[k]) > 5e-4);
      const where = moved.length ? moved.map(([k, v]) => `${nameOfLatent(k)} ${minus(v.toFixed(2))}`).join(", ") : "nothing moved";
      return `${model().name}, start ${starts.get(state.start).name}; ${where}`;
    }

    // -- the other direction --

    function brightened(image) {
      const { mask } = data.rois[state.roi];
      const inside = (i) => (mask[i >> 3] >> (i & 7)) & 1;
      let sum = 0;
      let n = 0;
      for (let i = 0; i < image.length; i++)
        if (inside(i)) {
          sum += image[i];
          n++;
        }
      const more = ((state.by / 100) * sum) / (n || 1);
      return image.map((v, i) => (inside(i) ? v + more : v));
    }
    function read() {
      codes.of = shown.image;
      wish("before", { image: shown.image });
      change();
    }
    function change() {
      if (!codes.of || codes.of !== shown.image) return; // read when it has settled
      const image = brightened(shown.image);
      paint(seen.firstChild, image, 0, data.white, GREYS);
      const { acronym } = data.rois[state.roi];
      const words = state.by ? `${acronym} ${Math.abs(state.by)} % ${state.by > 0 ? "brighter" : "darker"}` : `${acronym} as decoded`;
      seen.firstChild.setAttribute("aria-label", `What the encoder reads: the decoded section, ${words}.`);
      wish("after", { image, words });
    }
    function drawCodes() {
      if (!codes.before || !codes.after) return;
      const most = Math.max(3, ...codes.before.map(Math.abs), ...codes.after.map(Math.abs));
      const moves = codes.after.map((v, k) => v - codes.before[k]);
      const first = moves.reduce((best, v, k) => (Math.abs(v) > Math.abs(moves[best]) ? k : best), 0);
      codeRows.forEach(({ name, before, after, bars }, k) => {
        name.textContent = nameOfLatent(k);
        name.parentElement.classList.toggle("lx-most", k === first && Math.abs(moves[k]) >= 0.005);
        [before, after].forEach((cell, i) => {
          const v = [codes.before, codes.after][i][k];
          cell.textContent = minus(v.toFixed(2));
          bars[i].style = `left:${50 + (50 * Math.min(v, 0)) / most}%;width:${(50 * Math.abs(v)) / most}%`;
        });
      });
      if (state.by && codes.words !== codes.told)
        say(`${codes.words}: ${nameOfLatent(first)} moves most, from ${minus(codes.before[first].toFixed(2))} to ${minus(codes.after[first].toFixed(2))}.`);
      codes.told = codes.words;
      root.dispatchEvent(new Event("read"));
    }

    // -- regions under the pointer --

    function pointAt(label) {
      if (label === region) return;
      region = label;
      drawOutlines();
    }
    function tell() {
      tip.replaceChildren(element("strong", {}, nameOf(region)), element("span", {}, `mean brightness ${shown.means[region].toFixed(3)}`),
        element("span", {}, `difference ${signed(shown.changes[region], 3)}`));
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
    for (const view of views) {
      view.stack.onpointermove = view.stack.onpointerdown = (event) => hover(event, view);
      view.stack.onpointerleave = () => {
        tip.hidden = true;
        pointAt(0);
      };
    }

    // -- state --

    const engine = makeEngine(data, (job, result, ms) => {
      if (job.key !== key()) return;
      if (job.kind === "start") {
        [shown.startImage, shown.startKey] = [result, job.key];
        paint(originals[1].firstChild, result, 0, data.white, GREYS);
      } else if (job.kind === "now") Object.assign(shown, { image: result, key: job.key, z: job.z, ms });
      else if (job.kind === "before") codes.before = result;
      else Object.assign(codes, { after: result, words: job.words });
      if (job.kind === "before" || job.kind === "after") return drawCodes();
      sayWhence();
      draw();
    }, (error) => {
      root.textContent = `This browser cannot run the models (${error.message}); a newer one with WebAssembly SIMD can.`;
    });
    const wish = (kind, of) => engine(kind, { ...of, model: state.model, key: key() });

    function sayWhence() {
      const took = shown.ms === null ? "" : ` One section takes ${Math.max(1, Math.round(shown.ms))} ms in this browser.`;
      source.textContent = `${model().name}; cohort ${data.cohort}${data.simulated ? ", simulated" : ""}; ${height} × ${width} pixels of ${data.pixel_um} µm.${took}`;
    }
    function move(k, value) {
      state.z = state.z.map((v, i) => (i === k ? milli(value) : v));
      showSlider(k);
      wish("now", { z: state.z });
      settle();
    }
    function showSlider(k) {
      const { input, output, row, mark } = rows[k];
      input.value = state.z[k];
      output.textContent = minus(state.z[k].toFixed(2));
      input.setAttribute("aria-valuetext", `${nameOfLatent(k)}, ${minus(String(Math.round(state.z[k] * 100) / 100))} prior standard deviations`);
      mark.style.left = `${at(startCode()[k])}%`;
      row.classList.toggle("lx-moved", Math.abs(state.z[k] - startCode()[k]) > 5e-4);
    }
    function showLatents() {
      model().latents.forEach((latent, k) => {
        const { row, label, band, note, told } = rows[k];
        label.textContent = nameOfLatent(k);
        band.style = `left:${at(latent.low)}%;width:${at(latent.high) - at(latent.low)}%`;
        const follows = !latent.active ? "inactive in this fit" : latent.factor ? `${latent.r2 < 0.5 ? "mixed; closest to" : "follows"} ${plain(latent.factor)}, R²\u00a0${minus(latent.r2.toFixed(2))}` : "";
        note.textContent = follows + ("matched" in latent ? `; |r| ${latent.matched.toFixed(2)} with the first fit's` : "");
        told.textContent = `; 95 % of the test brains lie between ${minus(latent.low.toFixed(1))} and ${minus(latent.high.toFixed(1))}`;
        row.classList.toggle("lx-inactive", !latent.active);
      });
    }
    function takeUp(k) {
      if (state.playing) return; // what plays stays in hand
      state.latent = k;
      rows.forEach((r, i) => r.row.classList.toggle("lx-hand", i === k));
      sayPlay();
    }
    function sayPlay() {
      play.textContent = `${state.playing ? "Pause" : "Play"} ${nameOfLatent(state.latent)}`;
      play.classList.toggle("lx-on", state.playing);
    }
    function begin(id, z) {
      const one = starts.get(id);
      select.value = state.start = id;
      modelSelect.value = state.model;
      state.z = Array.from(z || startCode());
      Object.assign(shown, { key: null, startKey: null });
      Object.assign(codes, { of: null, before: null, after: null });
      showLatents();
      rows.forEach((_, k) => showSlider(k));
      takeUp(state.latent);
      originals[0].hidden = !one.pixels;
      originals[1].lastChild.textContent = one.pixels ? "Reconstruction" : "Decoded";
      originals[0].firstChild.setAttribute("aria-label", `Section of brain ${one.name}`);
      originals[1].firstChild.setAttribute("aria-label", `${originals[1].lastChild.textContent} section of the start, ${one.name}`);
      startNote.textContent = !one.pixels ? "Every latent has the median of the test brains' codes."
        : one.fault ? `This brain has an artefact (${one.fault}). Compare the two.` : "The model never saw this brain in training.";
      if (one.pixels) paint(originals[0].firstChild, one.pixels, 0, 255 * data.white, GREYS);
      wish("start", { z: startCode() });
      wish("now", { z: state.z });
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
        const step = still.matches ? 1 : (SPEED * Math.min(now - last, 200)) / 1000;
        last = now;
        let next = state.z[state.latent] + direction * step;
        if (Math.abs(next) >= limit) {
          direction = -Math.sign(next);
          next = -direction * limit;
        }
        move(state.latent, next);
        clock = setTimeout(tick, still.matches ? 1000 : 33);
      };
      clock = setTimeout(tick, 0);
    }

    // -- links --

    function hashOf() {
      const parts = [`model=${state.model}`, `start=${encodeURIComponent(state.start)}`];
      if (state.z.some((v, k) => v !== startCode()[k])) parts.push(`z=${state.z.join(",")}`);
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
      const [k, of] = [Number(given.get("latent") || 1), Number(given.get("model") || 0)];
      if (given.get("fit") !== fit || !starts.has(given.get("start")) || !(of in data.models)) {
        notice = "That link belongs to other models, whose latents are not these. ";
        return false;
      }
      if ((z && (z.length !== latentDim || !z.every(Number.isFinite))) || !(k >= 1 && k <= latentDim)) {
        notice = "That link is incomplete, so the explorer starts anew. ";
        return false;
      }
      setPlaying(false);
      [state.model, state.latent] = [of, Math.floor(k) - 1];
      begin(given.get("start"), z && z.map((v) => clamp(milli(v), Math.max(limit, ...model().codes.flat().map(Math.abs)))));
      return true;
    }

    // -- hands on --

    rows.forEach(({ input }, k) => {
      input.oninput = () => {
        setPlaying(false);
        takeUp(k);
        move(k, Number(input.value));
      };
      input.onfocus = () => takeUp(k);
    });
    const startOver = (id) => {
      setPlaying(false);
      begin(id);
    };
    select.onchange = () => startOver(select.value);
    modelSelect.onchange = () => {
      state.model = Number(modelSelect.value);
      startOver(state.start);
    };
    typical.onclick = () => {
      by.value = 0;
      by.oninput();
      startOver(TYPICAL.id);
    };
    reset.onclick = () => startOver(state.start);
    play.onclick = () => setPlaying(!state.playing);
    outlines.onchange = drawOutlines;
    by.oninput = roiSelect.onchange = () => {
      [state.by, state.roi] = [Number(by.value), Number(roiSelect.value)];
      byOutput.textContent = `${signed(state.by, 0)} %`;
      by.setAttribute("aria-valuetext", `${data.rois[state.roi].name} ${signed(state.by, 0)} %`);
      change();
    };
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

    drawOutlines();
    by.oninput();
    if (!readAddress()) begin(TYPICAL.id);

    let models = null;
    const of = (k) => (models = models || makeModels(data))(k);
    window.brainvaeExplorer = {
      decode: (z, k = 0) => of(k).decode(z),
      encode: (image, k = 0) => of(k).encode(image),
      get state() {
        return { ...state, region, shown: { ...shown }, codes: { ...codes }, ready: ready() };
      },
    };
  }

  const root = document.getElementById("lx-root");
  const data = window.brainvaeExplorerData;
  if (root && data && data.format === 2) explore(root, data);
  else if (root) {
    root.textContent = data
      ? "The models in _static/explorer_data.js are of another version than this page: run make book, which writes both."
      : "There are no models beside this page (_static/explorer_data.js): run make book, which writes them.";
  }
})();
