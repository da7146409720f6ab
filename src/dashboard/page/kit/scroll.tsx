import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

interface ScrollProps {
  /** What is in it: of the region, when there is more than fits. */
  label: string;
  className?: string;
  children: ComponentChildren;
}

/** What is wider or higher than its place can be reached by the arrow keys; what fits is no stop on the way. */
export function Scroll({ label, className = "scroll", children }: ScrollProps) {
  const box = useRef<HTMLDivElement>(null);
  const [overflows, setOverflows] = useState(false);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const look = () =>
      setOverflows(element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight);
    const observer = new ResizeObserver(look);
    observer.observe(element);
    for (const child of element.children) observer.observe(child);
    return () => observer.disconnect();
  }, []);
  const region = overflows ? { role: "region" as const, "aria-label": label, tabIndex: 0 } : {};
  return (
    <div ref={box} class={className} {...region}>
      {children}
    </div>
  );
}
