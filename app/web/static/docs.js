// The API's documentation: everything in openapi.json, to read and to try.
SwaggerUIBundle({
  url: new URL("../openapi.json", document.currentScript.src).href,
  domNode: document.getElementById("docs"),
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
