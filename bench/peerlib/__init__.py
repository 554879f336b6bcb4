"""What bench/peers is made of. programs: how each program is asked and what it answers; install and models: what has to
be there first; runner: the rounds; stats: which of them count and what they say; render: tables and the plot."""
