// Everything about one container: why it waits, what helps, its attempts, what was said when, and its log.

import { h } from "./dom.js";
import { badge, containerLink, facts, note, numbers, section, tierTone, time } from "./parts.js";
import { now, state } from "./store.js";
import { table } from "./table.js";
import { bytes, count, duration, plain, seconds } from "./words.js";

const ATTEMPTS = [["Container"], ["Attempt", "number"], ["State"], ["Created"], ["Started"], ["Ended"], ["Node"], ["Exit", "number"], ["How it ended", "wide"]];

const KNOBS = {
  never: "whoever made the request (ask for less), or an operator (add a larger size)",
  hold: "an operator",
  limit: "an operator",
  waiting: "nobody has to do anything: it ends by itself",
  unseen: "nobody has to do anything: it has not been looked at yet",
};

export function story() {
  const shown = state.story;
  const told = shown.told;
  const current = told?.attempts.at(-1);
  return [
    h("p", { key: "back", class: "crumbs" }, h("a", { href: "#/" }, "All containers")),
    h("h1", { key: "title", class: "uuid" }, shown.uuid),
    shown.trouble ? note(shown.missing ? shown.trouble : `The API cannot be asked: ${shown.trouble}`, "warn") : "",
    told ? [summary(told, current), waits(told, current), attempts(told), changes(told), log(shown)] : shown.trouble ? "" : h("p", { class: "muted" }, "Asking the API…"),
  ];
}

function summary(told, current) {
  const isCurrent = current.uuid === state.story.uuid;
  return h(
    "div",
    { key: "summary", class: "summary" },
    facts([
      ["State", badge(current.state)],
      ["Request", told.name || ""],
      ["Request UUID", told.request && h("span", { class: "uuid" }, told.request)],
      ["Request state", told.request_state],
      ["Priority", count(told.priority > 1000 ? Math.ceil(told.priority / 2 ** 50) : told.priority)],
      ["Attempt", count(current.number)],
      ["Current attempt", isCurrent ? "" : containerLink(current.uuid)],
      ["Runs on", current.node],
      ["Failed before", current.temp_fails ? `${count(current.temp_fails)} in a row by no fault of its own` : ""],
      ["Not before", time(current.run_after, now())],
      ["Held", current.hold ? "until an operator releases it" : ""],
      ["Output", current.output],
    ]),
  );
}

function waits(told, current) {
  const [first, ...others] = told.reasons;
  if (!first) {
    const words = { Queued: "Nobody has said yet why it waits.", Locked: "It is about to start.", Running: "It runs." }[current.state] ?? `It is over: ${current.state}.`;
    return section("why", "Why it waits", note(words, current.state === "Running" || current.state === "Complete" ? "good" : "calm"));
  }
  return section("why", "Why it waits", reasonCard(first), others.length ? h("details", null, h("summary", null, `${count(others.length)} more dispatchers say`), others.map(reasonCard)) : "");
}

function reasonCard(reason) {
  const due = reason.next_attempt_at && seconds(reason.next_attempt_at) - now();
  return h(
    "article",
    { class: `reason ${tierTone(reason.tier)}`, key: reason.dispatcher },
    h("p", { class: "lead" }, badge(plain(reason.token), tierTone(reason.tier)), " ", reason.sentence),
    numbers(reason.facts),
    reason.advice ? h("p", { class: "advice" }, h("strong", null, "What helps: "), reason.advice) : "",
    facts([
      ["Whose turn it is", reason.knob || KNOBS[reason.tier]],
      ["Next attempt", due && (due > 0 ? [`in ${duration(due)}, at `, time(reason.next_attempt_at, now())] : "due")],
      ["Since", time(reason.since, now())],
      ["Said by", `${reason.dispatcher_name || reason.dispatcher}${reason.last_checked ? `, who looked ${duration(now() - seconds(reason.last_checked))} ago` : ""}`],
    ]),
  );
}

function attempts(told) {
  const rows = [...told.attempts].reverse().map((each) => ({
    key: each.uuid,
    name: each.uuid === state.story.uuid ? "current" : "",
    cells: [
      each.uuid === state.story.uuid ? h("span", { class: "uuid" }, each.uuid) : containerLink(each.uuid),
      count(each.number),
      badge(each.state),
      time(each.created_at, now()),
      time(each.started_at, now()),
      time(each.finished_at, now()),
      each.node,
      each.exit_code === null ? "" : String(each.exit_code),
      each.error ? [each.error, numbers(each.facts)] : "",
    ],
  }));
  return section("attempts", rows.length === 1 ? "One attempt" : `${rows.length} attempts, newest first`, table("Attempts", ATTEMPTS, rows));
}

function changes(told) {
  if (!told.history.length) return null;
  const items = [...told.history].reverse().map((change, index) =>
    h(
      "li",
      { key: `${change.at} ${index}`, class: change.reason ? tierTone(change.reason.tier) : "good" },
      time(change.at, now()),
      " ",
      change.reason ? [badge(plain(change.reason.token), tierTone(change.reason.tier)), " ", change.reason.sentence] : "no reason to wait any more",
      told.attempts.length > 1 ? h("small", null, ` attempt ${told.attempts.find((each) => each.uuid === change.container)?.number ?? "?"}`) : "",
    ),
  );
  return section("changes", "What was said, newest first", h("ol", { class: "timeline" }, items));
}

function log(shown) {
  const text = shown.log?.text ?? "";
  const title = shown.log ? `The end of its log (at most ${bytes(shown.log.limit_bytes)})` : "The end of its log";
  let content = h("p", { class: "muted" }, "Fetching…");
  if (shown.logTrouble) content = note(`There is no log to show: ${shown.logTrouble}`);
  else if (text) content = h("pre", { tabindex: "0", "aria-label": "Log" }, text);
  else if (shown.log) content = note("It has written nothing yet.");
  return section("log", title, content);
}
