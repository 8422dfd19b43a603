// The presenter: a full-width view over the page that walks through the examples. It asks the server for one slide at a
// time and paints the pictures itself, with the canvas's own model and painter. Events to the server: "turn" (a wish), "leave".

import { moves, rows } from "./canvas-film.js";
import { legend } from "./canvas-legend.js";
import { selectionAt, styleOf, unpack, unpackExact } from "./canvas-model.js";
import { arrange, css, extent, Painter, variants } from "./canvas-paint.js";
import { style as chosenStyle } from "./controls.js";
import { onceAFrame } from "./frames.js";

// Whether keys are text there.
function writes(target) {
  return target.closest?.("textarea, select, [contenteditable], input:not([type=range]):not([type=radio]):not([type=checkbox])");
}

export function start({ element, props, trigger, watch }) {
  const opener = element.querySelector('[data-part="open"]');
  const dialog = element.querySelector("template").content.cloneNode(true).querySelector("dialog");
  element.closest(".contain").append(dialog); // in here the component would tidy it away
  const piece = (name) => dialog.querySelector(`[data-part="${name}"]`);

  const view = {
    turn: 0, place: null, total: 1, retention: null, curves: false, // what is wished
    told: null, exact: null, held: new Map(), from: null, // held: key -> { data, pictures }
  };

  const redraw = onceAFrame(paint);

  // Wishes

  function wish() {
    view.turn += 1;
    const { turn, place, retention, curves, held } = view;
    trigger("turn", { turn, place, retention, curves, held: [...held.keys()] });
    wait();
  }

  function open() {
    if (dialog.open) return;
    view.from = document.activeElement;
    Object.assign(view, { place: null, retention: null, told: null, exact: null });
    dialog.showModal();
    dialog.focus();
    wish();
  }

  function move(by) {
    if (view.place === null) return; // where we are is not known yet
    view.place = (view.place + by + view.total) % view.total;
    for (const name of ["title", "question", "all-count", "kept-count"]) piece(name).textContent = "";
    piece("place").textContent = `${view.place + 1} of ${view.total}`;
    wish();
  }

  function step(by) {
    if (view.retention === null) return;
    const further = props.steps.filter((share) => (by > 0 ? share > view.retention + 1e-9 : share < view.retention - 1e-9));
    if (!further.length) return;
    view.retention = by > 0 ? Math.min(...further) : Math.max(...further);
    wish();
  }

  function otherCurves() {
    view.curves = !view.curves;
    piece("curves").setAttribute("aria-pressed", String(view.curves));
    wish();
  }

  // What is on its way must not look like a result: it is faint, and says so.
  function wait() {
    dialog.dataset.waits = "yes";
    dialog.dataset.stage = "waiting";
    piece("status").textContent = "Computing …";
    piece("chart").setAttribute("aria-busy", "true");
    for (const name of ["full", "kept", "verdict", "why"]) piece(name).textContent = "";
    piece("verdict").className = "";
    for (const value of piece("facts").querySelectorAll("dd")) value.textContent = "–";
    redraw();
  }

  // News

  function tell() {
    const told = props.told;
    if (!told || told.turn !== view.turn) return; // of a slide that was left
    if (told.waiting) { piece("status").textContent = told.waiting; return; }
    if (told.problem) { fail(told.problem); return; }
    if (view.told?.turn === view.turn && view.told.stage === "done") return; // quick wishes may be served twice
    Object.assign(view, { told, place: told.place, total: told.total, retention: told.retention });
    piece("title").textContent = told.title;
    piece("place").textContent = `${told.place + 1} of ${told.total}`;
    piece("method").textContent = `· ${told.method}`;
    piece("question").textContent = told.question;
    piece("full").textContent = told.full;
    piece("kept").textContent = told.kept;
    dialog.dataset.long = String(told.long);
    dialog.dataset.stage = told.stage;
    piece("verdict").textContent = told.verdict_words;
    piece("verdict").className = told.verdict ? `badge ${told.verdict}` : "";
    piece("why").textContent = told.verdict_why;
    facts(told.facts);
    status();
    redraw();
  }

  // A slide that ended without its results: nothing of it stands as if it were on its way.
  function fail(problem) {
    piece("status").textContent = problem;
    piece("chart").setAttribute("aria-busy", "false");
    Object.assign(dialog.dataset, { waits: "no", stage: "stopped" });
  }

  function facts(pairs) {
    const list = piece("facts");
    if (!list.children.length) {
      for (const [name] of pairs) {
        const row = list.appendChild(document.createElement("div"));
        row.append(Object.assign(document.createElement("dt"), { textContent: name }), document.createElement("dd"));
      }
    }
    pairs.forEach(([, value], i) => { list.children[i].lastChild.textContent = value; });
  }

  function chart() {
    const drawn = props.chart;
    if (!drawn || drawn.turn !== view.turn) return;
    if (drawn.svg) piece("chart").innerHTML = drawn.svg;
    else piece("chart").replaceChildren(Object.assign(document.createElement("p"), { textContent: drawn.summary })); // why there is none
    piece("chart").setAttribute("aria-label", drawn.summary);
    piece("chart").setAttribute("aria-busy", "false");
    status();
  }

  function status() {
    const late = props.chart?.turn === view.turn ? props.chart.status : view.curves ? "Measuring the curves …" : "";
    const now = view.told?.turn === view.turn ? view.told.status || late : "Computing …";
    if (piece("status").textContent !== now) piece("status").textContent = now;
    dialog.dataset.waits = now ? "yes" : "no";
  }

  async function hold() {
    const payload = props.value;
    if (!payload || !payload.images || view.held.has(payload.key)) return;
    const shown = await Promise.all(payload.images.map(async (image) => {
      const picture = new Image();
      picture.src = image.src;
      await picture.decode();
      return variants(picture, props.colours);
    }));
    view.held.set(payload.key, { data: unpack(payload), pictures: shown });
    redraw();
  }

  // Painting

  function paint() {
    const held = view.told && view.held.get(view.told.key);
    if (!dialog.open || !held) return;
    const { data } = held;
    const setting = { retention: view.retention, lambda: view.told.lambda, scope: view.told.scope };
    const chosen = selectionAt(data, setting, view.exact);
    // Of the slide that is shown, any number of tokens is known here already.
    const fresh = view.told.turn === view.turn || (view.told.place === view.place && chosen.exact);
    const style = styleOf(data, chosenStyle());
    legend(dialog, style, chosen, props.colours);
    for (const figure of dialog.querySelectorAll("figure")) {
      const painter = painterOf(figure.querySelector("canvas"), held);
      if (figure.dataset.side === "kept") {
        painter.paint(style, chosen, { in: new Set(), out: new Set() });
      } else {
        painter.context.clearRect(0, 0, painter.context.canvas.width, painter.context.canvas.height);
        painter.backdrop("plain");
        if (!data.anew) painter.frames(Array(data.n).keys(), css(props.colours.seam, 0.35), 1); // else they are another encoding's
      }
      figure.querySelector("canvas").setAttribute("aria-label", figure.dataset.side === "kept"
        ? `The picture with the ${chosen.k} kept patches marked` : `The whole picture, ${data.full} patches`);
      figure.setAttribute("aria-busy", String(!fresh));
    }
    if (!fresh) return;
    piece("all-count").textContent = data.full.toLocaleString("en");
    piece("kept-count").textContent = `${chosen.k.toLocaleString("en")} · ${Math.round((100 * chosen.k) / data.full)} %`;
    dialog.dataset.kept = [...chosen.order].join(" ");
  }

  // The whole picture in the middle of its box; of a clip all frames.
  function painterOf(canvas, { data, pictures: shown }) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const box = { width: canvas.clientWidth, height: canvas.clientHeight, highest: Infinity, foot: 0 };
    const places = data.images.some(moves) ? rows(data.images, box, data.images.map(() => true)) : arrange(data.images);
    const { width, height } = extent(places);
    const zoom = Math.min(canvas.width / width, canvas.height / height);
    const place = { zoom, x: (canvas.width - width * zoom) / 2, y: (canvas.height - height * zoom) / 2 };
    return new Painter(canvas.getContext("2d"), shown, data, place, props.colours, places);
  }

  // Keys and buttons

  const KEYS = {
    ArrowLeft: () => move(-1), ArrowRight: () => move(1), ArrowDown: () => step(-1), ArrowUp: () => step(1),
    c: otherCurves, p: () => dialog.close(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key.toLowerCase() !== "p") return;
    if (dialog.open || writes(event.target) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    open();
  });
  dialog.addEventListener("keydown", (event) => {
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // "p" would open it again
    act();
  });
  dialog.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.move) move(Number(button.dataset.move));
    if (button.dataset.step) step(Number(button.dataset.step));
    if (button.dataset.part === "curves") otherCurves();
    if (button.dataset.part === "leave") dialog.close();
  });
  dialog.addEventListener("close", () => {
    view.turn += 1; // whatever still comes is of no use
    view.held.clear();
    trigger("leave", {});
    (view.from && view.from !== document.body ? view.from : opener).focus();
  });
  element.addEventListener("click", (event) => {
    if (event.target.closest('[data-part="open"]')) open();
  });
  new ResizeObserver(redraw).observe(dialog);
  watch("value", hold);
  watch("exact", () => { view.exact = unpackExact(props.exact); redraw(); });
  watch("told", tell);
  watch("chart", chart);
}
