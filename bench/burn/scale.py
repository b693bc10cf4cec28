"""How much of everything: for real figures, and for a test that everything runs."""
import dataclasses


@dataclasses.dataclass
class Scale:
    rounds: int = 5
    peer_rounds: int = 3          # of line, hold and starve, whose rounds are long
    burn_sizes: tuple = (0.1, 1, 5, 20, 100)  # ms
    burn_cpu: float = 1           # seconds burned a figure
    request_sizes: tuple = (0.1, 1, 5, 20)  # ms
    request_cpu: float = 2        # seconds burned a figure
    quiet_seconds: float = 3      # to find the idle cost, and that of /api/info
    line_steps: int = 10
    line_cpu: float = 1           # seconds burned a point
    hold_targets: tuple = (20, 50, 70, 100, 250, 400, 500)  # millicores
    hold_seconds: float = 20
    settle_seconds: float = 3     # from the start of a hold to the first look
    starve_seconds: float = 6
    starve_after: float = 10      # seconds looked at after the starvation
    goodput_seconds: float = 10
    goodput_skip: float = 2       # of them, until the queue is full
    refusal_seconds: float = 3
    refusal_rate: float = 2000    # requests a second
    probe_pairs: int = 9
    probe_seconds: float = 3
    overload_seconds: float = 10
    memory_sizes: tuple = (32, 64, 128)  # MiB
    memory_seconds: float = 2     # after freeing it
    idle_seconds: float = 30


QUICK = Scale(rounds=1, peer_rounds=1, burn_sizes=(0.1, 5), burn_cpu=0.02, request_sizes=(5,), request_cpu=0.05,
              quiet_seconds=0.2, line_steps=3, line_cpu=0.05, hold_targets=(100, 500), hold_seconds=0.5,
              settle_seconds=0.3, starve_seconds=0.3, starve_after=1.2, goodput_seconds=1, goodput_skip=0.3,
              refusal_seconds=0.2, refusal_rate=500, probe_pairs=1, probe_seconds=0.3, overload_seconds=0.5,
              memory_sizes=(32,), memory_seconds=2, idle_seconds=0.5)
