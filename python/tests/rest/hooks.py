"""Changes of the requests that schemathesis sends: streams would not end, and the run needs its own token."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query or {}
    if query.get("follow") in (True, "true", "1", ""):
        query["follow"] = "false"
    if case.method == "DELETE" and (case.path_parameters or {}).get("name") == "admin":
        case.path_parameters["name"] = "admin-"
