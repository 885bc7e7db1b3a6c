import { defineConfig } from "vite";

export default defineConfig({
  base: "/static/",
  build: {
    outDir: "../app/static",
    emptyOutDir: true,
    // GraphiQL's Monaco editor is one chunk of this size whatever we do.
    chunkSizeWarningLimit: 5000,
    reportCompressedSize: false,
    // Every browser that can run GraphiQL preloads modules by itself.
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: ["graphiql.html", "docs.html"],
      // "use client" in React libraries is for servers that render; here there is none.
      checks: { moduleLevelDirective: false },
    },
  },
});
