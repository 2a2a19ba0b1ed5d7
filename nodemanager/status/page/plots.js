// How the last hour or day was: four small plots, drawn as SVG, each with its numbers in words.

import { h } from "./dom.js";
import { button, section } from "./parts.js";
import { chooseSpan, now, state } from "./store.js";
import { clock, count, price, seconds } from "./words.js";

const WIDTH = 600;
const HEIGHT = 120;
const TOP = 6;
const SPANS = { hour: 3600, day: 86400 };
const GAP_STEPS = 2.6; // more than that between two samples is a gap

const PLOTS = [
  {
    id: "waiting",
    title: "Waiting",
    say: count,
    layers: [
      ["waiting", "claimed"],
      ["queued", "in the queue"],
    ],
  },
  { id: "running", title: "Running", say: count, layers: [["running", "running"]] },
  {
    id: "nodes",
    title: "Nodes",
    say: count,
    layers: [
      ["nodes", "here"],
      ["booting", "booting"],
    ],
  },
  { id: "price", title: "Cost per hour", say: price, layers: [["price", "cost per hour"]] },
];

let pointed = null; // index of the sample that is pointed at

export function plots(redraw) {
  const told = state.history[state.span];
  const spans = Object.keys(SPANS).map((span) =>
    button(`Last ${span}`, () => chooseSpan(span), {
      key: span,
      class: "choice",
      "aria-pressed": String(state.span === span),
    }),
  );
  return section(
    "plots",
    "Over time",
    h(
      "div",
      { class: "choices", role: "group", "aria-label": "How much time the plots show" },
      spans,
    ),
    told?.columns.at.length > 1
      ? h(
          "div",
          { class: "plots" },
          PLOTS.map((plot) => figure(plot, told, redraw)),
        )
      : h(
          "p",
          { class: "muted" },
          state.span === "day"
            ? "A point is drawn for every two minutes; the first ones are still to come."
            : "A point is drawn every ten seconds; the first ones are still to come.",
        ),
    told &&
      h(
        "p",
        { class: "muted small" },
        `Kept in memory since ${clock(told.began_at, now())}: a restart of the daemon begins anew.`,
      ),
  );
}

function figure(plot, told, redraw) {
  const { at } = told.columns;
  const stacked = stack(plot.layers.map(([column]) => told.columns[column]));
  const total = stacked.at(-1);
  const highest = Math.max(...total);
  const scale = {
    from: seconds(told.taken_at) - SPANS[state.span],
    to: seconds(told.taken_at),
    top: ceiling(highest),
    gap: GAP_STEPS * told.step_seconds,
  };
  const chosen = pointed === null ? null : Math.min(pointed, at.length - 1);
  const [last, lowest] = [total.at(-1), Math.min(...total)].map(plot.say);
  const words = `now ${last}, lowest ${lowest}, highest ${plot.say(highest)}`;
  return h(
    "figure",
    { key: plot.id, id: `plot-${plot.id}` },
    h(
      "figcaption",
      null,
      h("strong", null, plot.title),
      " ",
      h(
        "span",
        { class: "muted" },
        chosen === null ? words : pointedWords(plot, told.columns, chosen),
      ),
      legend(plot),
    ),
    h(
      "div",
      {
        class: "drawing",
        tabindex: "0",
        role: "img",
        "aria-label": `${plot.title} in the last ${state.span}: ${words}`,
        onpointermove: (event) => point(event, at, scale, redraw),
        onpointerleave: () => leave(redraw),
        onblur: () => leave(redraw),
        onkeydown: (event) => walk(event, at.length, redraw),
      },
      h(
        "svg",
        { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        [1, 0.5].map((share) =>
          h("line", {
            key: `grid ${share}`,
            class: "grid",
            x1: 0,
            x2: WIDTH,
            y1: height(share * scale.top, scale),
            y2: height(share * scale.top, scale),
          }),
        ),
        stacked
          .map((values, index) =>
            h("path", {
              key: `area ${index}`,
              class: `area layer-${index}`,
              d: area(at, values, stacked[index - 1], scale),
            }),
          )
          .reverse(),
        stacked.map((values, index) =>
          h("path", {
            key: `line ${index}`,
            class: `line layer-${index}`,
            d: line(at, values, scale),
          }),
        ),
        chosen === null
          ? null
          : h("line", {
              key: "pointed",
              class: "pointed",
              x1: across(at[chosen], scale),
              x2: across(at[chosen], scale),
              y1: 0,
              y2: HEIGHT,
            }),
      ),
      h("span", { class: "top", "aria-hidden": "true" }, plot.say(scale.top)),
    ),
    h(
      "div",
      { class: "axis", "aria-hidden": "true" },
      h("span", null, `${SPANS[state.span] / 3600} h ago`),
      h("span", null, "now"),
    ),
  );
}

function legend(plot) {
  if (plot.layers.length < 2) return "";
  return h(
    "span",
    { class: "legend" },
    plot.layers.map(([column, name], index) =>
      h("span", { key: column, class: `swatch layer-${index}` }, name),
    ),
  );
}

function pointedWords(plot, columns, index) {
  const values = plot.layers.map(([column, name]) => `${plot.say(columns[column][index])} ${name}`);
  return `${clock(new Date(columns.at[index] * 1000).toISOString(), now())}: ${values.join(", ")}`;
}

function stack(layers) {
  const sums = [];
  for (const layer of layers)
    sums.push(layer.map((value, index) => value + (sums.at(-1)?.[index] ?? 0)));
  return sums;
}

/** The next round number: a scale that does not jump with every sample. */
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10]
    .map((step) => step * power)
    .find((step) => step >= value * 0.999);
}

function across(at, scale) {
  return round(((at - scale.from) / (scale.to - scale.from)) * WIDTH);
}

function height(value, scale) {
  return round(HEIGHT - (value / scale.top) * (HEIGHT - TOP));
}

function round(number) {
  return Math.round(number * 10) / 10;
}

/** The stretches without a gap, as lists of indices. */
function stretches(at, gap) {
  const found = [];
  at.forEach((moment, index) => {
    if (index && moment - at[index - 1] <= gap) found.at(-1).push(index);
    else found.push([index]);
  });
  return found;
}

function line(at, values, scale) {
  return stretches(at, scale.gap)
    .map(
      (indices) =>
        `M${indices.map((index) => `${across(at[index], scale)} ${height(values[index], scale)}`).join("L")}`,
    )
    .join("");
}

function area(at, values, below, scale) {
  return stretches(at, scale.gap)
    .map((indices) => {
      const upper = indices.map(
        (index) => `${across(at[index], scale)} ${height(values[index], scale)}`,
      );
      const lower = indices
        .map((index) => `${across(at[index], scale)} ${height(below?.[index] ?? 0, scale)}`)
        .reverse();
      return `M${[...upper, ...lower].join("L")}Z`;
    })
    .join("");
}

function point(event, at, scale, redraw) {
  const box = event.currentTarget.getBoundingClientRect();
  const moment = scale.from + ((event.clientX - box.left) / box.width) * (scale.to - scale.from);
  let nearest = 0;
  at.forEach((each, index) => {
    if (Math.abs(each - moment) < Math.abs(at[nearest] - moment)) nearest = index;
  });
  pointed = nearest;
  redraw();
}

function walk(event, length, redraw) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.key === "Escape") pointed = null;
  else if (step) pointed = Math.max(0, Math.min(length - 1, (pointed ?? length) + step));
  else return;
  event.preventDefault();
  redraw();
}

function leave(redraw) {
  pointed = null;
  redraw();
}
