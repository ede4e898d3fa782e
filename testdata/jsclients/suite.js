// What the programs of this folder share: the services, and checks of which each prints a line.
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { leave, print, set, url } from "#platform";

export { set, url };

export const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, set));
export const Echo = registry.getService("demo.echo.v1.Echo");
export const Chat = registry.getService("demo.chat.v1.Chat");
export const ErrorInfo = registry.getMessage("google.rpc.ErrorInfo");
export const Status = registry.getMessage("google.rpc.Status");

let failed = false;

// check runs one check, which throws when something is not as it should be.
export async function check(name, run) {
  try {
    await run();
    print("ok " + name);
  } catch (e) {
    failed = true;
    print("not ok " + name + ": " + String(e?.stack ?? e).replaceAll("\n", " | "));
  }
}

// end is called when all checks are over.
export function end() {
  return leave(failed ? 1 : 0);
}

// equal holds what was found against what is wanted.
export function equal(got, want, what) {
  const [g, w] = [got, want].map((v) => JSON.stringify(v, (_, x) => (typeof x === "bigint" ? String(x) : x)));
  if (g !== w) {
    throw new Error(`${what}: want ${w}, found ${g}`);
  }
}

// between checks that a number is in a range.
export function between(got, low, high, what) {
  if (!(got > low && got <= high)) {
    throw new Error(`${what}: want more than ${low} and at most ${high}, found ${got}`);
  }
}

// rejected returns what a promise is rejected with.
export async function rejected(promise) {
  let value;
  try {
    value = await promise;
  } catch (e) {
    return e;
  }
  throw new Error("want an error, found " + value);
}
