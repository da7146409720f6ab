export function resolve(specifier, context, next) {
	return next(specifier === "moleculer" ? "moleculer-014" : specifier, context);
}
