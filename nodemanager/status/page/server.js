// Calls of the management server that this page came from.

/** The server said no, or did not answer (status 0). */
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

export function read(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  return call(query ? `${path}?${query}` : path, { headers: { Accept: "application/json" } });
}

export function tell(path, parameters = {}) {
  return call(path, { method: "POST", body: new URLSearchParams(parameters) });
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, cache: "no-store", credentials: "same-origin" });
  } catch {
    throw new Refused(0, "the management server does not answer");
  }
  let body = null;
  try {
    body = await response.json();
  } catch {
    if (response.ok) throw new Refused(0, "what answers here is no management server");
  }
  if (!response.ok) {
    throw new Refused(
      response.status,
      body?.errors?.join("; ") ?? `HTTP status ${response.status}`,
    );
  }
  return body;
}
