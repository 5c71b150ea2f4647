"""What both passes of a step have in common in CUDA C: who a thread is, what it holds, the loop over time.

Values that are multiplied go into `rows` in shared memory, of which there are several in turn, so that a fast thread
does not write another step's before a slow one has read this step's.
"""

import dataclasses
import itertools
from typing import NamedTuple

from rnn_compare.recurrence.gpu.layout import SHARED, WARP, Layout, Matrix, kept, matrix
from rnn_compare.recurrence.gpu.part import Part
from rnn_compare.recurrence.step.graph import Node, UnsupportedError, ancestors, is_constant

ROW = "const long long at = first + t * batch;"
HEAD = """
#ifndef F  // on a GPU
#define F(number) number##f
// Without a branch, which would keep several from being computed at once.
static __device__ __forceinline__ float logistic(float x)
{{
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.4426950408889634f));
    return __fdividef(1, 1 + power);
}}
// Shared memory gets a number of global memory, some time before `await`.
static __device__ __forceinline__ void fetch(float* to, const float* from)
{{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from));
}}
static __device__ __forceinline__ void close_group()
{{
    asm volatile("cp.async.commit_group;");
}}
template <int left> static __device__ __forceinline__ void await()
{{
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}}
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

static __device__ __forceinline__ float total(float part)
{{
    #pragma unroll
    for (int other = 1; other < {split}; other *= 2)
        part += __shfl_xor_sync(0xffffffff, part, other);
    return part;
}}
"""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel.

    Attributes:
        name: of its function.
        source: in CUDA C.
        threads: of a block.
        sequences: that a block computes.
        shared: bytes of shared memory that it takes.
    """

    name: str
    source: str
    threads: int
    sequences: int
    shared: int


class Load(NamedTuple):
    """What a step reads.

    Attributes:
        name: the variable that holds it.
        array: where it is, a row for each step of each sequence.
        width: numbers of a row.
        initial: if its row is the step before's: where the first step's is, a row for each sequence.
    """

    name: str
    array: str
    width: int
    initial: str = ""


class Pass:
    """What both passes share.

    Attributes:
        name: of the function.
        kinds: whether a part of a step is computed a step ahead, in the ways in which it can be written, best first.
        turns: how many steps' rows there are, a power of two.
        single: the most units for which a thread had better compute its products alone, as was measured on an H200.
    """

    name: str
    kinds: tuple[bool, ...] = (False,)
    turns = 2
    single: int

    def __init__(self, layout: Layout, roots: list[Node], gradients: dict[Node, Node]) -> None:
        """What both passes share.

        Args:
            layout: what they work on.
            roots: the values that a step computes.
            gradients: products whose matrices' gradients are added up, and their cotangents.
        """
        self.of, self.step = layout, layout.step
        self.outer: dict[Matrix, list[tuple[Node, Node]]] = {}
        for product, gradient in gradients.items():
            if not is_constant(gradient, 0):
                self.outer.setdefault(matrix(product), []).append((product.inputs[0], gradient))
        pairs = [pair for pairs in self.outer.values() for pair in pairs]
        self.order = ancestors([*roots, *(node for pair in pairs for node in pair)])
        products = [node for node in self.order if node.op == "product"]
        self.matrices = list(dict.fromkeys(map(matrix, products)))
        self.narrow = [m for m in self.matrices if m.inputs > 1 and m.outputs == 1]
        multiplied = [product.inputs[0] for product in products]
        multiplied += [row for m, pairs in self.outer.items() if m.outputs > 1 for row, _ in pairs]
        self.multiplied = list(dict.fromkeys(row for row in multiplied if row.width > 1))
        self.names: dict[Node, str] = {node: f"v{i}" for i, node in enumerate(self.vectors)}
        self.names |= {node: f"s{i}" for i, node in enumerate(self.step.states)}
        self.names |= {node: f"x{i}" for i, node in enumerate(self.step.inputs)}

    def kernels(self) -> list[Kernel]:
        """A kernel for each way and each split that may fit, best first.

        Raises:
            UnsupportedError: there is none.
        """
        made, refused = [], []
        splits = self.of.splits(self.matrices, self.outer, len(self.vectors))
        if self.of.units > self.single and splits[0] == 1:
            splits = [*splits[1:], 1]
        for ahead, split in itertools.product(self.kinds, splits):
            self.split = split
            self.rows, self.floats = {}, 0
            for row in self.multiplied:
                self.rows[row] = self.floats
                self.floats += self.whole(row.width)
            group = self.of.units * self.split
            self.sequences = max(1, WARP // group)
            self.threads = group * self.sequences
            try:
                made.append(self.kernel(ahead))
            except UnsupportedError as why:
                refused.append(why)
        if not made:
            raise refused[0]
        return made

    def kernel(self, ahead: bool) -> Kernel:
        """The kernel of the split that is set, see `kinds`."""
        raise NotImplementedError

    # What a pass works on.

    @property
    def given(self) -> list[Matrix]:
        """The matrices among its operands."""
        return self.of.matrices

    @property
    def vectors(self) -> list[Node]:
        """The vectors among its operands."""
        return self.of.vectors

    def operands(self) -> list[str]:
        """Names of the operands."""
        step = self.step
        names = [f"given_x{i}" for i in range(len(step.inputs))] + ["until"] * self.of.ending
        names += [f"carry{i}" for i in range(len(step.states))]
        return names + [f"given_w{i}" for i in range(len(self.of.matrices))] + self._named_vectors(self.of.vectors)

    def _named_vectors(self, vectors: list[Node]) -> list[str]:
        return [f"given_v{self.vectors.index(vector)}" for vector in vectors]

    # Writing.

    def source(self, results: list[str], body: list[str]) -> Kernel:
        """The whole source."""
        parameters = ["long long steps", "long long batch", "long long keep"]
        parameters += [f"const float* __restrict__ {name}" for name in self.operands()]
        parameters += [f"float* __restrict__ {name}" for name in results]
        head = [HEAD.format(split=self.split)]
        head += [f'extern "C" __global__ void __launch_bounds__({self.threads}, 1) {self.name}(']
        head += [",\n".join(f"    {parameter}" for parameter in parameters) + ")", "{"]
        text = "\n".join([*head, *("    " + line for line in body), "}", ""])
        return Kernel(self.name, text, self.threads, self.sequences, self.shared)

    def start(self) -> list[str]:
        """Who a thread is, and what it holds."""
        units, split = self.of.units, self.split
        lines = [
            "extern __shared__ float4 shared[];",
            f"const int lane = threadIdx.x % {split}, unit = threadIdx.x / {split} % {units};",
            f"const int sequence = threadIdx.x / {split * units};",
            f"const long long run = blockIdx.y, own = (long long)blockIdx.x * {self.sequences} + sequence;",
            "const bool live = own < batch, writes = live && lane == 0;",
            "const long long place = run * batch + (live ? own : batch - 1);",
            "const long long first = place + run * (steps - 1) * batch;",
            f"for (int i = threadIdx.x; i < {self.stays(0)}; i += blockDim.x)",
            "    ((float*)shared)[i] = 0;",
        ]
        if self.of.ending:
            lines += [
                "int end = 0;",
                f"for (int i = 0; i < {self.sequences}; ++i) {{",
                f"    const long long b = (long long)blockIdx.x * {self.sequences} + i;",
                "    if (b < batch) end = max(end, (int)min(steps, (long long)until[run * batch + b]));",
                "}",
            ]
        else:
            lines += ["const int end = steps;"]
        for i, m in enumerate(self.matrices):
            lines += self._load_matrix(i, m)
        for i, vector in enumerate(self.vectors):
            lines += [f"const float v{i} = {self.read(f'given_v{i}', vector.width, 'run')};"]
        return lines

    def whole(self, width: int) -> int:
        """The numbers that a row takes in shared memory."""
        return kept(width, self.split) * self.split

    def stays(self, number: int) -> int:
        """Where a narrow matrix lies in shared memory, behind the rows: its column is the same for all units."""
        return self.turns * self.sequences * self.floats + sum(self.whole(m.inputs) for m in self.narrow[:number])

    def clamped(self, width: int) -> str:
        """A thread's unit of a value of a width, or the last."""
        return "0" if width == 1 else "unit" if width == self.of.units else f"min(unit, {width - 1})"

    @property
    def k(self) -> str:
        """Which number of a row the i-th is that a thread holds."""
        return f"(i / 4 * {self.split} + lane) * 4 + i % 4"

    def _load_matrix(self, number: int, m: Matrix) -> list[str]:
        turned = m not in self.given
        source = f"(given_w{self.given.index(m.other if turned else m)} + run * {m.inputs * m.outputs})"
        column = self.clamped(m.outputs)
        count = kept(m.inputs, self.split)
        if m in self.narrow:
            return [
                f"for (int i = threadIdx.x; i < {self.whole(m.inputs)}; i += blockDim.x)",
                f"    ((float*)shared)[{self.stays(self.narrow.index(m))} + i] = i < {m.inputs} ? ({source})[i] : 0;",
            ]
        lines = [f"float w{number}[{count}];"]
        if m.inputs == 1:
            return [*lines, f"w{number}[0] = ({source})[{column}];"]
        index = f"{column} * {m.inputs} + k" if turned else f"k * {m.outputs} + {column}"
        outside = "" if count * self.split == m.inputs else f"k >= {m.inputs} ? 0 : "
        return [
            *lines,
            "#pragma unroll",
            f"for (int i = 0; i < {count}; ++i) {{",
            f"    const int k = {self.k};",
            # Volatile, or all are loaded at once, and more of their addresses kept than there are registers.
            f"    w{number}[i] = {outside}((const volatile float*){source})[{index}];",
            "}",
        ]

    @property
    def barrier(self) -> str:
        """All threads of a sequence come so far."""
        return "__syncwarp();" if self.threads <= WARP else "__syncthreads();"

    # A step.

    def together(self, *parts: Part) -> list[str]:
        """Parts of a step side by side, round by round, so that they wait together."""
        lines = []
        for rounds in itertools.zip_longest(*(part.rounds() for part in parts), fillvalue=([], [])):
            lines += [line for values, _ in rounds for line in values]
            stores = [line for _, stores in rounds for line in stores]
            lines += [*stores, self.barrier] if stores else []
        return lines

    def turn(self, now: str) -> str:
        """Where the rows of a step are, by how many steps were before it."""
        return f"all_rows + ({now} & {self.turns - 1}) * {self.sequences * self.floats // 4}"

    def read(self, name: str, width: int, at: str = "at") -> str:
        """A thread's unit of row `at` of an array."""
        return f"{name}[{at} * {width} + {self.clamped(width)}]"

    def write(self, name: str, value: str, width: int, at: str = "at") -> str:
        """Writes it."""
        return f"if (writes && unit < {width}) {name}[{at} * {width} + unit] = {value};"

    def inputs(self) -> list[Load]:
        """The inputs."""
        return [Load(f"x{i}", f"given_x{i}", node.width) for i, node in enumerate(self.step.inputs)]

    def over_time(
        self, loads: list[Load], inner: list[str], backward: bool = False, first: list[str] | None = None
    ) -> list[str]:
        """A loop over time; what a step reads is asked for some steps before, so that none waits for memory.

        Args:
            loads: what it reads.
            inner: a step.
            backward: whether the last is first.
            first: what is computed for the first step before the loop, if a step computes some of the next, with
                variables that are named `next_`.

        Raises:
            UnsupportedError: there is not enough shared memory.
        """
        count, ring, lead = self.threads * len(loads), self.stays(len(self.narrow)), 1 if first is None else 2
        depth = next((d for d in (8, 4, 2) if 4 * (ring + d * count) <= SHARED and d > lead), None)
        if depth is None:
            raise UnsupportedError(f"{self.threads} threads take more than a GPU's shared memory")
        self.shared = 4 * max(4, ring + depth * count)
        when, on = ("end - 1 - now", "-=") if backward else ("now", "+=")
        lines = [f"float* const ring = (float*)shared + {ring} + threadIdx.x;"]
        fetches, moves = [], []
        for i, (name, array, width, initial) in enumerate(loads):
            at = f"(first + {'(end - 1)' if backward else '0'} * batch{' - batch' if initial else ''})"
            lines.append(f"const float* from_{name} = &{self.read(array, width, at)};")
            source = f"from_{name}"
            if initial:
                lines.append(f"const float* const first_{name} = &{self.read(initial, width, 'place')};")
                source = f"now < end - 1 ? {source} : first_{name}"
            fetches.append(f"        fetch(slot + {i * self.threads}, {source});")
            moves.append(f"        from_{name} {on} batch * {width};")
        names = [name for name, *_ in loads]
        taken = {name: f"ring[({{}} & {depth - 1}) * {count} + {i * self.threads}];" for i, name in enumerate(names)}
        begin = [f"    const float {name} = next_{name};" for name in names]
        move: list[str] = []
        rows = "rows" if first is None else "next_rows"
        if first is not None:
            first = [*(f"float {name} = {text.format(0)}" for name, text in taken.items()), *first]
            begin, move = [], [f"    {name} = next_{name};" for name in (*names, "rows")]
        return [
            *lines,
            f"float4* const all_rows = shared + sequence * {self.floats // 4};",
            f"float4* rows = {self.turn('0')};",
            *([] if first is None else [f"float4* next_rows = {self.turn('1')};"]),
            "const auto ask = [&](int now) {",
            f"    float* const slot = ring + (now & {depth - 1}) * {count};",
            "    if (now < end) {",
            *fetches,
            *moves,
            "    }",
            "    close_group();",
            "};",
            "#pragma unroll 1",
            f"for (int now = 0; now < {depth - 1}; ++now) ask(now);",
            f"await<{depth - 1 - lead}>();",
            *(first or []),
            *(f"float next_{name} = {text.format(lead - 1)}" for name, text in taken.items()),
            "for (int now = 0; now < end; ++now) {",
            *begin,
            f"    const int t = {when}; {ROW}",
            *("    " + line for line in inner),
            f"    ask(now + {depth - 1});",
            f"    await<{depth - 1 - lead}>();",
            *move,
            f"    {rows} = {self.turn(f'(now + {lead})')};",
            *(f"    next_{name} = {text.format(f'now + {lead}')}" for name, text in taken.items()),
            "}",
        ]

    def ends(self, names: list[tuple[str, int]]) -> list[str]:
        """Zeros for the steps that are not computed."""
        if not self.of.ending:
            return []
        zeros = (f"    {self.write(name, '0', width)}" for name, width in names)
        return ["for (int t = end; t < steps; ++t) {", f"    {ROW}", *zeros, "}"]
