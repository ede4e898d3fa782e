// What the programs are given, and where they print, in a page: its server has the descriptors, and takes what is printed.

// url is the gateway, set the descriptors of its services, encoded.
export const url = new URLSearchParams(location.search).get("gateway");
export const set = new Uint8Array(await (await fetch("/descriptors")).arrayBuffer());

const lines = [];

// print keeps a line.
export const print = (line) => lines.push(line);

// leave ends the page.
export const leave = (code) => fetch("/report", { method: "POST", body: [...lines, "exit " + code, ""].join("\n") });
