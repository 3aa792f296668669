"""Training by several processes: who is there, what they tell each other, and what goes wrong between them."""

from dlkit.core.distributed.agreement import check_same_program
from dlkit.core.distributed.batch_norm import sync_batch_norms
from dlkit.core.distributed.joining import STORE, joined
from dlkit.core.distributed.meeting import NobodyCame, agree_on_store
from dlkit.core.distributed.parallel import Sharing, build_replica
from dlkit.core.distributed.replicas import Replica, Replicated, Single, average_statistics, idle
from dlkit.core.distributed.shards import cut_optimizer_state, load_whole, local_part, whole
from dlkit.core.distributed.world import ALONE, World
