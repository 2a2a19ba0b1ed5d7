// Small pieces that several views are made of.

import { h } from "./dom.js";
import { clock, fact, factName } from "./words.js";

const TONES = {
  never: "bad",
  hold: "warn",
  limit: "warn",
  waiting: "calm",
  unseen: "calm",
  Complete: "good",
  Running: "good",
  PermFail: "bad",
  TempFail: "warn",
  idle: "calm",
  busy: "good",
  draining: "warn",
  failed: "bad",
  lost: "bad",
  alive: "good",
};

/** How good or bad a word is: good, calm, warn or bad. */
export function tone(word) {
  return TONES[word] ?? "calm";
}

export function badge(word, kind = tone(word)) {
  return h("span", { class: `badge ${kind}` }, word);
}

export function time(text, now) {
  return text ? h("time", { datetime: text, title: text }, clock(text, now)) : "";
}

/** A button that is one; `isOn` for those that stay pressed. */
export function button(words, onclick, more = {}) {
  return h("button", { type: "button", onclick, ...more }, words);
}

export function section(id, title, ...content) {
  return h(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, title),
    content,
  );
}

export function note(words, tone = "calm") {
  return h("p", { class: `note ${tone}` }, words);
}

export function containerLink(uuid) {
  return h("a", { href: `#/containers/${encodeURIComponent(uuid)}`, class: "uuid" }, uuid);
}

/** Terms and what they are; entries without a value are left out. */
export function facts(entries) {
  const shown = entries.filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  return h(
    "dl",
    { class: "facts" },
    shown.map(([term, value]) =>
      h("div", { key: term }, h("dt", null, term), h("dd", null, value)),
    ),
  );
}

/** A reason's numbers: what is wanted against the best there is. */
export function numbers(given) {
  const names = Object.keys(given);
  if (!names.length) return "";
  return h(
    "ul",
    { class: "numbers" },
    names.map((name) => h("li", { key: name }, numberWords(name, given[name]))),
  );
}

function numberWords(name, value) {
  const title = h("span", { class: "muted" }, `${factName(name)} `);
  const isPair =
    value !== null && typeof value === "object" && "wanted" in value && "available" in value;
  if (!isPair) return [title, fact(name, value)];
  const share = value.wanted > 0 ? Math.min(1, value.available / value.wanted) : 1;
  return [
    title,
    `wants ${fact(name, value.wanted)}, best available ${fact(name, value.available)}`,
    h("span", { class: "meter", "aria-hidden": "true", "--share": `${Math.round(share * 100)}%` }),
  ];
}
