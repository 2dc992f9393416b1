// The peer of bench/ingest.py: @octokit/webhooks on node's http, each delivery committed before it is answered.
//
//     node octokit.mjs NODE_MODULES DATABASE SECRET
//
// Prints its port. The commit is better-sqlite3 with WAL and synchronous = FULL, as ours is.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, path, secret] = process.argv.slice(2);
const require = createRequire(join(modules, "here.js"));
const Database = require("better-sqlite3");
const { Webhooks, createNodeMiddleware } = await import(
  pathToFileURL(join(modules, "@octokit/webhooks/dist-bundle/index.js"))
);

const database = new Database(path);
database.pragma("journal_mode = WAL");
database.pragma("synchronous = FULL");
database.exec("CREATE TABLE events (delivery TEXT PRIMARY KEY, name TEXT NOT NULL, payload TEXT NOT NULL)");
const insert = database.prepare("INSERT OR IGNORE INTO events VALUES (?, ?, ?)");

const webhooks = new Webhooks({ secret });
webhooks.onAny(({ id, name, payload }) => {
  insert.run(id, name, JSON.stringify(payload));
});

const server = createServer(createNodeMiddleware(webhooks, { path: "/hooks/github" }));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
