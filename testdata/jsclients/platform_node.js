// What the programs are given, and where they print, in Node.
import { readFileSync } from "node:fs";

// url is the gateway, set the descriptors of its services, encoded.
export const url = process.env.GATEWAY;
export const set = readFileSync(process.env.DESCRIPTORS);

// print prints a line.
export const print = (line) => console.log(line);

// leave ends the program with an exit code.
export const leave = (code) => process.exit(code);
