"""Grid Engine: Son of Grid Engine and, with the differences named in `dialects`, its relatives.

`scheduler` is the module itself. `options` are what an operator can set, `submission` makes jobs arguments of qsub,
`roster` knows which jobs are ours and how they are, `accounting` how they ended, `nodes` and `elastic` the hosts.
`answers` and `states` read what Grid Engine says; `notes` keep what it cannot.
"""
