let aliases = {};

export function initialize(data) {
  aliases = data;
}

export function resolve(specifier, context, next) {
  return next(aliases[specifier] ?? specifier, context);
}
