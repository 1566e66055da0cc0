// SPDX-License-Identifier: MIT
// node build.mjs OUT MICROPYTHON CONTENT: bundles the page with what host_sim/web/site.py put into CONTENT.

import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [out, micropython, content] = process.argv.slice(2);
// Modules of node, which MicroPython's own file imports where it runs under node.
const node = ["fs", "path", "url", "crypto", "module"];
const target = ["chrome123", "firefox120", "safari17.5"]; // browsers of 2024: light-dark() in CSS
const common = { bundle: true, minify: true, format: "esm", outdir: out, target, logLevel: "warning", external: node };

mkdirSync(out, { recursive: true });
const page = await build({
    ...common,
    entryPoints: [join(here, "src/main.js")],
    splitting: true,
    chunkNames: "part-[hash]",
    metafile: true,
});
const worker = await build({
    ...common,
    entryPoints: [join(here, "src/worker.js")],
    alias: { micropython: join(micropython, "micropython.mjs") },
    metafile: true,
});
await build({
    ...common,
    entryPoints: { main: join(here, "src/main.css") },
});
for (const name of ["index.html", "icon.svg"]) cpSync(join(here, name), join(out, name));
cpSync(join(micropython, "micropython.wasm"), join(out, "micropython.wasm"));
cpSync(content, out, { recursive: true });

// Licences of everything that was bundled.
const inputs = [...Object.keys(page.metafile.inputs), ...Object.keys(worker.metafile.inputs)];
const packages = new Set(inputs.map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean));
let licences = `${readFileSync(join(content, "licences.txt"), "utf8").trim()}\n`;
for (const name of [...packages].sort()) {
    const folder = join(here, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file ? readFileSync(join(folder, file), "utf8").trim() : "";
    licences += `\n${"-".repeat(72)}\n${name} ${version}: ${license}\n\n${text}\n`;
}
writeFileSync(join(out, "licences.txt"), licences);

// The service worker's list, and a version that changes with any of the files.
const walk = (folder) =>
    readdirSync(folder).flatMap((name) => {
        const path = join(folder, name);
        return statSync(path).isDirectory() ? walk(path) : [relative(out, path)];
    });
const files = walk(out).filter((name) => name !== "sw.js").sort();
const hash = createHash("sha256");
for (const name of files) hash.update(name).update(readFileSync(join(out, name)));
// The first visit takes the model that the page starts with and the one for photos, another one when it is chosen.
const { models, photos } = JSON.parse(readFileSync(join(content, "contents.json"), "utf8"));
const later = models.filter((name) => name !== models[0] && name !== photos).map((name) => join("models", name));
const source = readFileSync(join(here, "src/sw.js"), "utf8")
    .replace("@VERSION@", `ftervit-${hash.digest("hex").slice(0, 16)}`)
    .replace('["@FILES@"]', JSON.stringify(["./", ...files.filter((name) => !later.includes(name))]))
    .replace('["@LATER@"]', JSON.stringify(later));
writeFileSync(join(out, "sw.js"), source);
if (!existsSync(join(out, "main.js"))) throw new Error("main.js was not made");
