/** A new UUID of version 7: it sorts by time. */
export async function newId(): Promise<string> {
  // Node has it among its globals from 19 on.
  const random = globalThis.crypto ?? (await webcrypto());
  const bytes = random.getRandomValues(new Uint8Array(16));
  new DataView(bytes.buffer).setUint32(2, Date.now() % 2 ** 32);
  new DataView(bytes.buffer).setUint16(0, Math.floor(Date.now() / 2 ** 32));
  bytes[6] = (bytes[6] ?? 0) & 0x0f | 0x70;
  bytes[8] = (bytes[8] ?? 0) & 0x3f | 0x80;
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

async function webcrypto(): Promise<Crypto> {
  const name = "node:crypto"; // not for bundlers to look for
  const module = (await import(name)) as { webcrypto: Crypto };
  return module.webcrypto;
}
