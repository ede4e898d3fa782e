package main

// demoSteps are what the demo shows, in order: later ones stand on what earlier ones changed.
var demoSteps = []step{
	{
		title: "one order: enums by name, 64-bit numbers as strings, timestamps, a map, a oneof",
		path:  "/v1/orders/1", status: 200,
		want: `{"name":"orders/1","customer":"ada","state":"PLACED","created":"2026-01-05T08:30:00Z","labels":{"channel":"web"},
			"address":{"city":"London"},"deliveryTime":"172800s","items":[{"sku":"tea-500g","quantity":2}]}`,
	},
	{
		title: "a list, with query parameters for repeated, nested and enum fields",
		path:  "/v1/orders?page_size=2&states=PLACED&states=SHIPPED&filter.created_after=2025-12-31T00:00:00Z", status: 200,
		want: `{"orders":[{"customer":"grace"}]}`,
	},
	{
		title: "take an order in: the body is one field of the request, the query another",
		path:  "/v1/orders?request_id=demo-1", body: `{"customer":"alan","items":[{"sku":"mug","quantity":2}],"pickup_shop":7}`, status: 200,
		want: `{"name":"orders/4","state":"PLACED","totalCents":"2500","pickupShop":7}`,
	},
	{
		title: "change one field of it, named by a field mask",
		path:  "/v1/orders/4?update_mask=labels", method: "PATCH", body: `{"labels":{"note":"leave at the door"}}`, status: 200,
		want: `{"name":"orders/4","customer":"alan","labels":{"note":"leave at the door"}}`,
	},
	{
		title: "cancel it, by a custom verb",
		path:  "/v1/orders/4:cancel", body: `{"reason":"changed my mind"}`, status: 200,
		want: `{"name":"orders/4","state":"CANCELLED"}`,
	},
	{
		title: "a method without any HTTP rule; a price that JavaScript would round stays exact",
		path:  "/demo.orders.v1.Orders/Quote", body: `{"items":[{"sku":"teahouse","quantity":1}]}`, status: 200,
		want: `{"totalCents":"9007199254740993","prices":{"teahouse":"9007199254740993"}}`,
	},
	{
		title: "an error of the service, with its details decoded",
		path:  "/v1/orders/99", status: 404,
		want: `{"code":5,"details":[{"@type":"type.googleapis.com/google.rpc.ResourceInfo","resourceName":"orders/99"},
			{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ORDER_NOT_FOUND","domain":"orders.demo"}]}`,
	},
	{
		title: "an error of the caller: refused at the edge, with the place and the nearest name",
		path:  "/v1/orders", body: `{"customer":"alan","items":[{"sku":"mug","quantiy":2}]}`, status: 400,
		want: `{"code":3}`, text: `did you mean \"quantity\"?`,
	},
	{
		title: "a deadline, passed on to the service",
		path:  "/v1/orders/1", header: "X-Request-Timeout: 0.000001", status: 504,
		want: `{"code":4}`,
	},
	{
		title: "the same method for Connect callers, on the same port",
		path:  "/demo.orders.v1.Orders/GetOrder?connect=v1&encoding=json&message=%7B%22name%22%3A%22orders%2F1%22%7D", status: 200,
		want: `{"name":"orders/1","customer":"ada"}`,
	},
	{
		title: "and for gRPC callers",
		rpc:   "demo.orders.v1.Orders/GetOrder", body: "orders/1",
		text: `"customer":"ada"`,
	},
	{
		title: "removing orders is for staff: a route with plugins of its own, for every protocol",
		path:  "/v1/orders/4", method: "DELETE", status: 401,
		want: `{"code":16,"details":[{"reason":"CREDENTIALS_MISSING"}]}`,
	},
	{
		title: "with the API key of a consumer",
		path:  "/v1/orders/4", method: "DELETE", header: "X-Api-Key: " + demoKey, status: 200,
		want: `{}`,
	},
	{
		title: "which may remove one an hour",
		path:  "/v1/orders/3", method: "DELETE", header: "X-Api-Key: " + demoKey, status: 429,
		want: `{"code":8}`,
	},
	{
		title: "a stream of the service, as server-sent events; without the limit it goes on as messages are said",
		path:  "/v1/rooms/lobby/messages?latest=2&limit=2", header: "Accept: text/event-stream", stream: true, status: 200,
		text: "data: {\"room\":\"lobby\",\"author\":\"alan\",\"text\":\"that depends\",\"said\":\"2026-01-05T08:31:00Z\"}\n\nevent: end\n",
	},
	{
		title: "messages go to the service as a stream, too: a JSON array, or a text in each line",
		path:  "/v1/rooms/lobby/messages:import", body: `[{"author":"ada","text":"on what?"},{"author":"alan","text":"on who asks"}]`, status: 200,
		want: `{"messages":"2"}`,
	},
	{
		title: "both ways at once: a chat over WebSocket, which browsers open just so",
		path:  "/v1/rooms/lobby:talk", say: []string{`{"author":"grace","text":"and who asks?"}`, `{"author":"grace","text":"anybody?"}`},
		text: `"text":"anybody?"`,
	},
	{
		title: "what is in stock: a service that speaks TARS, described by its .tars file; a clean URL, and the out parameter alone",
		path:  "/v1/stock/mug", status: 200,
		want: `{"sku":"mug","onHand":42,"byWarehouse":{"north":30,"south":12}}`,
	},
	{
		title: "set some aside: without a rule, by the names of interface and function",
		path:  "/Demo.Inventory/reserve", body: `{"sku":"mug","quantity":2}`, status: 200,
		want: `{"ret":40}`,
	},
	{
		title: "what it costs: a service that speaks tRPC",
		path:  "/v1/prices/teahouse", status: 200,
		want: `{"sku":"teahouse","cents":"9007199254740993","currency":"EUR"}`,
	},
	{
		title: "and its stream, as server-sent events",
		path:  "/v1/prices/mug:watch?count=2", header: "Accept: text/event-stream", stream: true, status: 200,
		text: "data: {\"sku\":\"mug\",\"cents\":\"1251\",\"currency\":\"EUR\"}",
	},
	{
		title: "the orders, which speak gRPC, for a client that speaks TARS",
		tars:  "/demo.orders.v1.Orders/Quote", body: `{"items":[{"sku":"mug","quantity":2}]}`,
		text: `{"totalCents":"2500","prices":{"mug":"1250"}}`,
	},
	{
		title: "what the gateway counted",
		admin: true, path: "/metrics", status: 200,
		text: `causeway_requests_total{`,
	},
}
