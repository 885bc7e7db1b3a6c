import "graphiql/setup-workers/vite";
import "graphiql/style.css";

import { createGraphiQLFetcher, type Fetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createClient } from "graphql-ws";
import { createElement } from "react";
import { createRoot } from "react-dom/client";

const HEADERS = `// Your token, for HTTP and for subscriptions:
// { "Authorization": "Bearer <token>" }
`;

const QUERY = `# Put your token under Headers below.
# Put the cursor in an operation and press Ctrl-Enter.

query Cafes {
  cafes { nodes { id name } }
}

mutation LinkRequest {
  linkRequest(
    cafeId: 3
    tgChatId: -1001234567890
  ) { id status }
}

# A manager approves it: write its id here.
mutation Approve {
  approve(requestId: 1) { id status processedAt }
}

# The stream is open until you stop it.
subscription LinkRequestUpdates {
  linkRequestUpdates { id status tgChatId }
}
`;

const http = new URL("/graphql", location.href);
const ws = new URL(http);
ws.protocol = http.protocol === "https:" ? "wss:" : "ws:";

// One client for each operation, so that a subscription has the headers of its start. The client opens its socket only for
// a subscription. It does not retry, so a refused connection shows as an error.
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
