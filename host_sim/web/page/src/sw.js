// SPDX-License-Identifier: MIT
// Keeps the page's files, so that it works offline, and serves them with the headers of cross-origin isolation, which
// not every server sends. build.mjs puts the list and the version in.

const VERSION = "@VERSION@";
const FILES = ["@FILES@"];
const LATER = ["@LATER@"]; // kept when they are chosen
const HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => {
    event.waitUntil(
        caches
            .open(VERSION)
            .then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" }))))
            .then(() => self.skipWaiting()),
    );
});

self.addEventListener("activate", (event) => {
    event.waitUntil(
        caches
            .keys()
            .then((names) => Promise.all(names.filter((n) => n.startsWith("ftervit-") && n !== VERSION).map((n) => caches.delete(n))))
            .then(() => self.clients.claim()),
    );
});

async function answer(request) {
    const cache = await caches.open(VERSION);
    const kept = await cache.match(request, { ignoreSearch: true });
    const response = kept ?? (await fetch(request));
    if (response.status === 0) return response;
    if (!kept && response.ok) await cache.put(request, response.clone());
    const headers = new Headers(response.headers);
    for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
    return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

self.addEventListener("fetch", (event) => {
    const url = new URL(event.request.url);
    const scope = new URL(self.registration.scope);
    const own = [...FILES, ...LATER].some((file) => new URL(file, scope).pathname === url.pathname);
    if (event.request.method === "GET" && url.origin === scope.origin && own) event.respondWith(answer(event.request));
});
