"""What `--check` looks at: commands, dialect, directories, accounting, and what the cell lets us do."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nodemanager.durable import write_problem
from nodemanager.errors import SchedulerError
from nodemanager.model import Finding
from nodemanager.schedulers.commands import Commands
from nodemanager.schedulers.sge.answers import attribute, names_listed
from nodemanager.schedulers.sge.dialects import DIALECTS, Dialect, dialect_of
from nodemanager.schedulers.sge.options import MemoryPer, NodeOrigin, SgeOptions

_COMPLEX_COLUMNS = 8
"""Of a line of qconf -sc, the only table here that has no XML."""
_COMMANDS = ("qsub", "qstat", "qdel", "qalter", "qhost", "qmod", "qconf")


def find_dialect(commands: Commands, options: SgeOptions) -> Dialect:
    """Which of the relatives this is; one that is not known is taken for Son of Grid Engine."""
    return dialect_of(banner(commands, options)) or DIALECTS[0]


def findings(commands: Commands, options: SgeOptions, cluster_id: str) -> Sequence[Finding]:
    """See the module's docstring."""
    try:
        said = banner(commands, options)
        master = commands.run(options.command("qconf"), "-sss").or_raise().strip()
    except SchedulerError as error:
        return (Finding("Grid Engine", problem=f"it does not answer: {error}"),)
    dialect = dialect_of(said)
    found = [
        Finding("Grid Engine", f"{said}, master on {master}, cluster {cluster_id}"),
        Finding(
            "dialect",
            dialect.name if dialect else f"{said} is not known and taken for {DIALECTS[0].name}",
        ),
        _commands_finding(options),
        Finding("spool", str(options.spool), write_problem(options.spool)),
        _accounting_finding(options, dialect or DIALECTS[0]),
        _complexes_finding(commands, options),
        _pe_finding(commands, options),
    ]
    if options.nodes is NodeOrigin.DYNAMIC:
        found.append(_manager_finding(commands, options))
    return tuple(found)


def banner(commands: Commands, options: SgeOptions) -> str:
    """How qstat introduces itself: the first line of its help."""
    answer = commands.run(options.command("qstat"), "-help")
    return (answer.output.strip() or answer.complaint.strip()).partition("\n")[0].strip()


def _commands_finding(options: SgeOptions) -> Finding:
    where = str(options.commands) if options.commands else "PATH"
    if options.commands is None:
        return Finding("commands", f"in {where}")
    missing = [name for name in _COMMANDS if not os.access(options.commands / name, os.X_OK)]
    problem = f"{', '.join(missing)} cannot be run: see [Scheduler] commands" if missing else ""
    return Finding("commands", f"in {where}", problem)


def _accounting_finding(options: SgeOptions, dialect: Dialect) -> Finding:
    if not options.accounting_file:
        return Finding("accounting", "none: how jobs ended is not known")
    path = options.accounting_path(dialect)
    if path.exists() and not os.access(path, os.R_OK):
        problem = "it cannot be read"
    elif not path.parent.is_dir():
        problem = "its directory is not there"
    else:
        return Finding("accounting", str(path))
    return Finding(
        "accounting",
        str(path),
        f"{problem}: share the cell's common directory, or set [Scheduler] accounting_file",
    )


def _complexes_finding(commands: Commands, options: SgeOptions) -> Finding:
    wanted = [name for name in options.named_resources() if name != "slots"]
    if options.size_resource:
        wanted.append(options.size_resource)
    text = commands.run(options.command("qconf"), "-sc").or_raise()
    lines = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    consumed = {words[0]: words[5] for words in lines if len(words) == _COMPLEX_COLUMNS}
    # Without GPUs in the cell its default is of no use, and no harm.
    missing = [name for name in wanted if name not in consumed and name != "gpu"]
    problem = f"{', '.join(missing)} is not defined (qconf -mc)" if missing else ""
    if consumed.get(options.gpu_resource, "JOB") != "JOB":
        problem = f"{options.gpu_resource} has to be consumable per JOB (qconf -mc)"
    per_job = consumed.get(options.memory_resource) == "JOB"
    if per_job != (options.memory_per is MemoryPer.JOB) and options.memory_resource in consumed:
        problem = (
            f"{options.memory_resource} is {'' if per_job else 'not '}counted per job: "
            "see [Scheduler] memory_per"
        )
    return Finding("resources", ", ".join(wanted), problem)


def _pe_finding(commands: Commands, options: SgeOptions) -> Finding:
    answer = commands.run(options.command("qconf"), "-sp", options.pe)
    if answer.status != 0:
        problem = "it does not exist: jobs of several cores need it ([Scheduler] pe)"
    elif attribute(answer.output, "allocation_rule") != "$pe_slots":
        problem = "its allocation_rule has to be $pe_slots: all slots of a job on one host"
    else:
        problem = ""
    return Finding("parallel environment", options.pe, problem)


def _manager_finding(commands: Commands, options: SgeOptions) -> Finding:
    managers = names_listed(commands.run(options.command("qconf"), "-sm").or_raise())
    user = options.users[0] if options.users else ""
    problem = "" if user in managers else f"{user} is no manager (qconf -am {user})"
    return Finding("dynamic nodes", f"marked by {options.hostgroup}", problem)
