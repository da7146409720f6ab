"use strict";

const { createCipheriv, createDecipheriv, randomBytes } = require("node:crypto");

const ALGORITHM = "aes-256-gcm";

/**
 * The hooks for a ring of keys: the current one encrypts, all decrypt. Each payload says which key it needs, so that a
 * new key can be added on all nodes first and made current then, and an old one kept until nothing needs it any more.
 */
function hooks(ring) {
  return {
    encode(payload, of) {
      const nonce = randomBytes(12);
      const cipher = createCipheriv(ALGORITHM, ring.keys[ring.current], nonce).setAAD(bound(of));
      const data = Buffer.concat([cipher.update(JSON.stringify(payload)), cipher.final()]);
      const [n, tag, d] = [nonce, cipher.getAuthTag(), data].map(bytes => bytes.toString("base64"));
      return { key: ring.current, nonce: n, tag, data: d };
    },

    decode({ key, nonce, tag, data }, of) {
      // Tried again: the node may get the key meanwhile.
      if (!ring.keys[key]) throw new Error(`the key '${key}' is not known here`);
      const [n, t, d] = [nonce, tag, data].map(text => Buffer.from(text, "base64"));
      const decipher = createDecipheriv(ALGORITHM, ring.keys[key], n).setAAD(bound(of)).setAuthTag(t);
      return JSON.parse(Buffer.concat([decipher.update(d), decipher.final()]).toString());
    }
  };
}

/** It cannot be decrypted as the payload of another message. */
const bound = ({ id, event }) => Buffer.from(JSON.stringify([id, event]));

module.exports = { hooks };
