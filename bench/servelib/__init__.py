"""What bench/serve is made of: client.py (many streams at once), servers.py (programs started and watched), prompts.py
(texts of exact lengths), rounds.py (measuring in turn), tables.py (what the rounds say), stress.py (soak and overload)."""
