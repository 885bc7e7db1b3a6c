import "graphiql/setup-workers/vite";
import "graphiql/style.css";

import { createGraphiQLFetcher, type Fetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createClient } from "graphql-ws";
import { createElement } from "react";
import { createRoot } from "react-dom/client";

const HEADERS = `// Who you are, for HTTP and for subscriptions:
// { "Authorization": "Bearer <token>" }
`;

const QUERY = `# Say who you are under Headers below.
# Put the cursor in an operation, press Ctrl-Enter.

query Cafes {
  cafes { nodes { id name } }
}

mutation LinkRequest {
  linkRequest(
    cafeId: 1
    tgChatId: -1001234567890
  ) { id status }
}

# Stays open until it is stopped.
subscription LinkRequestUpdates {
  linkRequestUpdates { id status tgChatId }
}
`;

const http = new URL("/graphql", location.href);
const ws = new URL(http);
ws.protocol = http.protocol === "https:" ? "wss:" : "ws:";

// A client for each operation, so that a subscription says who it is with the headers of its start. It opens its socket
// only when something subscribes, and does not retry: a refused token (close code 4403) would look like silence.
const fetcher: Fetcher = (params, options) =>
  createGraphiQLFetcher({
    url: http.href,
    wsClient: createClient({ url: ws.href, connectionParams: options?.headers, retryAttempts: 0 }),
  })(params, options);

createRoot(document.getElementById("graphiql")!).render(
  createElement(GraphiQL, {
    fetcher,
    defaultQuery: QUERY,
    defaultHeaders: HEADERS,
    defaultEditorToolsVisibility: "headers",
  }),
);
