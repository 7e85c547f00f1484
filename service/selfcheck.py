"""The exam before the doors open: golden scores must come out as the checkpoint promises."""

import logging

from service.deps import Parts

logger = logging.getLogger("vlrm.selfcheck")


async def check(parts: Parts) -> None:
    """Golden scores first: a model that does not give them must not be asked."""
    try:
        result = await parts.worker.run(parts.scorer.self_check)
    except Exception:
        logger.exception("the golden self check raised; the server stays not ready")
        parts.admission.not_ready = "the golden self check raised an error; see the log"
        return
    parts.self_check = result
    parts.metrics.golden_rows.set(result.rows)
    parts.metrics.golden_max_difference.set(result.max_difference)
    found = (
        f"{result.max_difference:.3g} away from the golden scores, {result.tolerance:.3g} allowed"
    )
    parts.admission.not_ready = None if result.passed else f"the model is {found}"
    logger.log(
        logging.INFO if result.passed else logging.ERROR,
        "golden self check over %d rows: %s",
        result.rows,
        found,
    )
