import { kit } from "../texts/kit";
import { failureOf } from "./api";
import { Long } from "./parts";

interface ErrorBoxProps {
  error: unknown;
  onRetry?: () => void;
}

/** What has failed, by its type, and what to do about it. */
export function ErrorBox({ error, onRetry }: ErrorBoxProps) {
  const { type, message, status } = failureOf(error);
  const advice = status === 401 ? kit.unauthorized : (kit.toDo[type] ?? (status === 403 ? kit.forbidden : undefined));
  return (
    <div class="error-box" role="alert">
      <p>
        <code>{type}</code> <Long text={message} max={400} />
      </p>
      {advice && <p>{advice}</p>}
      {onRetry && (
        <button type="button" class="button small" onClick={onRetry}>
          {kit.again}
        </button>
      )}
    </div>
  );
}
