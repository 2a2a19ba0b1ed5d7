// Numbers and times for people.

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;

/** "4 s", "3 min", "2 h 10 min", "3 d 4 h"; `seconds` may be null. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "\u2013";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 2 * MINUTE) return `${whole} s`;
  if (whole < 2 * HOUR) return `${Math.floor(whole / MINUTE)} min`;
  if (whole < 2 * DAY) return pair(whole, HOUR, "h", MINUTE, "min");
  return pair(whole, DAY, "d", HOUR, "h");
}

function pair(whole, large, largeWord, small, smallWord) {
  const rest = Math.floor((whole % large) / small);
  const first = `${Math.floor(whole / large)} ${largeWord}`;
  return rest ? `${first} ${rest} ${smallWord}` : first;
}

/** Unix seconds of a time in the API's form; null for none. */
export function seconds(time) {
  const millis = time ? Date.parse(`${time.slice(0, 19)}Z`) : NaN;
  if (Number.isNaN(millis)) return null;
  return millis / 1000 + Number(`0${/\.\d+/.exec(time)?.[0] ?? ""}`);
}

/** The clock's time here, and the day too if it is another. */
export function clock(time, now) {
  const at = seconds(time);
  if (at === null) return "\u2013";
  const date = new Date(at * 1000);
  const hours = date.toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  });
  const isToday = date.toDateString() === new Date(now * 1000).toDateString();
  return isToday
    ? hours
    : `${date.toLocaleDateString([], { month: "short", day: "numeric" })} ${hours}`;
}

export function count(number) {
  return Number(number).toLocaleString("en");
}

/** "1 node", "3 nodes". */
export function many(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}

export function bytes(amount) {
  let value = Number(amount);
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(value) < 1024) return `${Number(value.toPrecision(4))} ${unit}`;
    value /= 1024;
  }
  return `${Number(value.toPrecision(4))} TiB`;
}

/** A price per hour, in the currency of the config file, which has no name. */
export function price(amount) {
  if (amount === null || amount === undefined) return "\u2013";
  const digits = amount > 0 && amount < 0.1 ? 4 : 2;
  return amount.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: digits });
}

/** A token in words: "node-booting" becomes "node booting". */
export function plain(token) {
  if (token === "none") return "about to be claimed";
  return token.replaceAll("-", " ");
}

/** A fact's number: bytes are told as such. */
export function fact(name, value) {
  if (Array.isArray(value)) return value.map((each) => fact(name, each)).join(", ");
  if (value !== null && typeof value === "object")
    return Object.entries(value)
      .map(([key, each]) => `${key}: ${fact(key, each)}`)
      .join(", ");
  if (typeof value !== "number") return String(value);
  if (name.endsWith("_bytes")) return bytes(value);
  if (name.endsWith("_seconds")) return duration(value);
  return count(value);
}

export function factName(name) {
  return name
    .replace(/_(bytes|seconds)$/, "")
    .replaceAll("_", " ")
    .replace(/^ram$/, "RAM")
    .replace(/^gpus$/, "GPUs");
}
