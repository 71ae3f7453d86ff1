// Forwards every call to the backend named by the variable `backend`, and does nothing else.
//
// It is the yardstick on Workers: it takes the route off the path, copies end-to-end headers and hands bodies over as the streams they arrived as. It is
// plain JavaScript, which the runtime runs with less effort than a Worker in WebAssembly: the harder comparison.

/** As the metered Worker's product has it. */
const ROUTE = "/translate";

/** Headers that belong to one connection. */
const NOT_FORWARDED = ["connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

function endToEnd(headers) {
  const copied = new Headers(headers);
  const nominated = headers.get("connection")?.split(",").map((name) => name.trim()) ?? [];
  for (const name of nominated) if (name) copied.delete(name);
  for (const name of NOT_FORWARDED) copied.delete(name);
  return copied;
}

export default {
  async fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    if (!pathname.startsWith(`${ROUTE}/`)) return Response.json({ code: "route_not_found" }, { status: 404 });
    const headers = endToEnd(request.headers);
    headers.delete("host");
    const { method, body } = request;
    const reply = await fetch(env.BACKEND + pathname.slice(ROUTE.length) + search, { method, headers, body, redirect: "manual" });
    return new Response(reply.body, { status: reply.status, headers: endToEnd(reply.headers) });
  },
};
