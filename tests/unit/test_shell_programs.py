"""Programs: the ordinary commands of a day are on the lists, what starts, writes or leads elsewhere is not."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kairosd.core.shell.plans import Command
from kairosd.core.shell.programs import Program, ProgramClass, Use, parse_program, read_use
from kairosd.core.shell.syntax import read_line
from kairosd.errors import ShellFormError
from kairosd.programs import load_programs

quick = settings(max_examples=60, deadline=None)

READERS = r"""
ls
ls -la
ls -lah src tests
ls -1 --color=never
ls -R src
ls -lt --time-style=long-iso
cat README.md
cat -n src/main.py
cat -A Makefile
cat a.txt b.txt -
head README.md
head -20 src/main.py
head -n 5 a.txt
head -n5 a.txt
head -c 100 a.txt
head --lines=3 a.txt
head -n -3 a.txt
tail -50 log.txt
tail -n +10 src/main.py
wc -l src/main.py
wc -lw a.txt b.txt
sort -u names.txt
sort -t, -k2,2n data.csv
sort -t , -k 2 -rn data.csv
sort -t ' ' data.csv
uniq -c
uniq -d names.txt
cut -d: -f1 data.txt
cut -d ',' -f 1,3-5 data.csv
cut -c1-80 a.txt
tr a-z A-Z
tr -d '\r'
tr -s ' ' '\n'
tr '[:upper:]' '[:lower:]'
diff -u old.txt new.txt
diff -ru --no-dereference old new
diff -q a b
diff -U 5 a b
cmp a.bin b.bin
comm -13 a.txt b.txt
stat -c '%s %n' a.txt
stat a.txt
file src/main.py
file -b --mime-type a.bin
find . -name '*.py'
find . -type f -name '*.py' -not -path './.venv/*'
find src tests -maxdepth 2 -type d
find . -newer a.txt -print0
find . '(' -name '*.js' -o -name '*.ts' ')' -size +10k
find . -name node_modules -prune -o -name '*.ts' -print
find . -empty
find . -mtime -1 -ls
find . -printf '%s %p\n'
find -name setup.cfg
grep -rn FIXIT src
grep -rn --include='*.py' 'def main' .
grep -c hello a.txt
grep -E '^(a|b)$' -A3 -B 2 a.txt
grep -in "hello world" a.txt
grep -e one -e two a.txt
grep -f patterns.txt a.txt
grep -l -r import src tests
grep -n -m 5 -C2 x a.txt
grep -rnw foo src --exclude-dir=node_modules
grep --color=never -o '[0-9]*' a.txt
grep -v '^#' config.ini
grep -- -x a.txt
egrep 'a|b' a.txt
rg FIXIT
rg -n 'a|b' -g '*.py'
rg -t py 'class \w+' src
rg --files
rg --files -g '*.ts' src
rg -l import
rg -uu -i secret_name src
rg -e one -e two src
rg -C3 -m 5 foo
rg --type-list
rg -nF 'a.b(' .
rg foo --glob '!dist' --hidden
rg -U 'a\nb' src
rg --json foo src
rg -c foo src
rg -o -r '$1' 'v(\d+)' a.txt
sed -n 10,20p src/main.py
sed -n '10,20p' src/main.py
sed -n '/start/,/end/p' a.txt
sed -n '5p;10p' a.txt
sed -n '5,10p;11q' a.txt
sed -n '$=' a.txt
sed -ne 5p a.txt
sed 's/a/b/g' a.txt
sed -E 's|src/(.*)|\1|' a.txt
sed '1d' a.txt
sed -n '/a\/b/p' a.txt
sed -e 's/^ *//' -e '/^$/d' a.txt
echo hello
echo -n hello world
echo "--- done ---"
echo '=== a ==='
echo -e 'a\tb\n'
echo -x
printf '%s\n' hello
printf "%5.2f %d\n" 3.14159 42
printf 'a\tb\n'
test -f a.txt
test -d src -a -e a.txt
test 1 -eq 1
[ -f a.txt ]
[ -n "x" ]
[ a = b ]
[ ! -e missing ]
true
false
pwd
nproc
uname -a
basename src/main.py .py
dirname src/main.py
realpath src/main.py
readlink -f src/main.py
du -sh src
du -h -d 1
tree -L 2
tree -a -I 'node_modules|.git'
nl -ba src/main.py
tac a.txt
paste -d, a.txt b.txt
fold -w 80 a.txt
column -t -s, data.csv
seq 1 10
sleep 1
sleep 0.5
date +%Y-%m-%d
date -u
which python3
jq . package.json
jq -r '.scripts | keys[]' package.json
jq '.dependencies["react"]' package.json
xxd a.bin
xxd -l 64 a.bin
od -c a.bin
hexdump -C -n 64 a.bin
md5sum a.bin
sha256sum a.bin b.bin
base64 -d a.b64
git status
git status --short
git status -sb
git status --porcelain=v2
git status --porcelain
git log
git log --oneline -10
git log -5
git log -n 5 --stat
git log -n5
git log --oneline --graph --all
git log --format='%h %s' -5
git log --format='%h%x09%s%x00' -5
git log --pretty=format:'%h %an %ad %s' --date=short
git log --pretty=oneline
git log --since='2 weeks ago' --author=me
git log --since 2024-01-01 -- src
git log main..dev
git log HEAD~3..HEAD --name-only
git log --follow -- src/main.py
git log --grep=fix -i
git log --oneline src/main.py
git --no-pager log -3
git log --no-ext-diff --no-textconv -p -1
git diff --stat
git diff --name-only HEAD~1
git diff --cached --name-status
git diff --no-ext-diff --no-textconv HEAD~1 -- src
git show --stat HEAD
git show --no-patch HEAD
git show -s --format=%B HEAD
git show --no-ext-diff --no-textconv HEAD:src/main.py
git branch
git branch -a
git branch -vv
git branch --show-current
git branch --contains HEAD
git branch --merged main
git branch --list 'feat*'
git tag
git tag -l
git tag -l 'v*'
git remote
git rev-parse HEAD
git rev-parse --short HEAD
git rev-parse --abbrev-ref HEAD
git rev-parse --show-toplevel
git rev-list --count HEAD
git ls-files
git ls-files '*.py'
git ls-files -m -o --exclude-standard
git ls-tree -r --name-only HEAD
git blame --no-textconv src/main.py
git blame --no-textconv -L 10,20 src/main.py
git blame --no-textconv -L 10,+5 HEAD -- src/main.py
git grep -n FIXIT
git grep -n foo -- '*.py'
git grep -e foo HEAD
git shortlog -sn HEAD
git describe --tags --always
git cat-file -t HEAD
git cat-file -p HEAD
git merge-base main HEAD
git for-each-ref --format='%(refname)' refs/heads
git reflog
git reflog -5
git stash list
git worktree list
git check-ignore -v a.txt
git --version
gofmt -l .
cd src
""".strip().splitlines()

CONFINED = r"""
python -m pytest
python -m pytest -q
python3 -m pytest tests/test_a.py::test_one -x -vv
python -m pytest -k 'a and not b' --tb=short
python -m pytest --maxfail=1 -p no:cacheprovider
python -B -m pytest
python -m unittest
python -m unittest discover -s tests -p 'test_*.py' -v
python -m unittest tests.test_a.TestA.test_one
python -m compileall src
python -m py_compile src/main.py
python -m mypy src
python -m ruff check src
python -m json.tool package.json
python scripts/run.py --flag value -x
python3 --version
python -m pip list
pytest
pytest -q tests
pytest -xvs tests/test_a.py
pytest --co -q
pytest -n auto --durations=5
pytest tests -k foo --no-header -rA
pytest --cov=src --cov-report=term-missing
pytest --lf
ruff check
ruff check src tests
ruff check --select E,F --output-format=concise .
ruff format --check .
ruff format --diff src
ruff --version
mypy
mypy --strict src
mypy -p kairosd
mypy --ignore-missing-imports src/main.py
black --check .
black --diff src
isort --check-only src
flake8 src --max-line-length=120
pyright
npm test
npm test -- --grep foo
npm run test
npm run lint
npm run build
npm run test:unit
npm run typecheck --silent
npm run test -w packages/a
npm run test -- src/a.test.ts
npm ls --depth=0
npm -v
node --test
node --test tests/a.test.js
node --test --test-name-pattern=foo tests
node --test --test-reporter=spec
node --check src/a.js
node --test tests
node -v
node scripts/build.js --prod
npx tsc --noEmit
npx eslint src
npx jest
npx vitest run
tsc --noEmit
tsc --noEmit -p tsconfig.json
eslint .
eslint src --ext .ts,.tsx --max-warnings=0
prettier --check .
jest --ci
jest src/a.test.ts -t 'adds'
vitest run
vitest run src/a.test.ts
make
make test
make -j4 all
make -C sub test
make -n build
make -k check lint
cargo test
cargo test --workspace --all-features
cargo test parser -- --nocapture
cargo check
cargo build --release
cargo clippy --all-targets -- -D warnings
cargo fmt --check
cargo fmt --all -- --check
cargo tree
go test ./...
go test -v -run TestFoo ./pkg/...
go test -race -count=1 ./...
go vet ./...
go build ./...
go version
uv run pytest -q
uv run ruff check .
uv run python -m pytest
poetry run pytest
yarn test
pnpm run lint
""".strip().splitlines()

EFFECTS = r"""
ruff check --fix
ruff check --fix src
ruff format
ruff format src
black .
isort src
eslint --fix .
prettier --write src
prettier -w src
cargo fmt
tsc
gofmt -w main.go
go fmt ./...
touch a.txt
mkdir -p a/b
cp a.txt b.txt
cp -r src copy
mv a.txt b.txt
rm a.txt
rm -rf build
chmod +x run.sh
tee out.txt
uniq a.txt out.txt
xxd a.bin out.txt
""".strip().splitlines()

OPAQUE = r"""
env touch x
env -S 'touch x'
xargs rm
timeout 5 ls
nice ls
sudo -n ls
sh -c ls
bash -lc ls
bash run.sh
busybox ls
perl -e 1
awk '{print $1}' a.txt
ssh host
python -c 'print(1)'
python3 -c 'print(1)'
python -m http.server
python
python -
python -i a.py
python -u
node -e 1
node -p 1
node --eval 1
node --require ./x.js a.js
node
node --import=./x.mjs a.js
uv run python -c 1
find . -exec rm {} ';'
find . -execdir rm {} +
find . -ok rm {} ';'
vim a.txt
parallel ls
watch ls
script -qec ls /dev/null
setpriv --nnp ls
stdbuf -oL ls
man ls
""".strip().splitlines()

REFUSED = r"""
ls --colo=never
ls -L
ls --hyperlink
cat --numbe a.txt
tail -f log.txt
tail --follow log.txt
tail -F log.txt
sort -o out.txt a.txt
sort -oout.txt a.txt
sort -uo out.txt a.txt
sort --output=out.txt a.txt
sort --outpu=out.txt a.txt
sort --compress-program=./x a.txt
sort -T . a.txt
sort --files0-from=a.txt
wc --files0-from=a.txt
uniq a b c
tr x '\033'
tr x '\33'
tr a '\a'
diff -r a b
diff -l a b
diff --to-file=a b
cmp a b 1 2
stat --printf '\033[2J' a
file -z a.gz
file -m magic a
file -C -m magic
file -f list
find . -delete
find . -fprint out.txt
find . -fprint0 out.txt
find . -fls out.txt
find . -fprintf out.txt '%p'
find -files0-from a.txt
find -L .
find . -follow
find . -printf '\033[2J'
find . --maxdepth 1
grep -P 'a(?=b)' a.txt
grep -oP '\d+' a.txt
grep -R x .
grep --perl-regexp x a.txt
grep --includ='*.py' x .
rg -P '(a+)+$'
rg --pcre2 x
rg --pre ./x hello
rg --pre=./x hello
rg -z x
rg --search-zip x
rg --hostname-bin ./x hello
rg --hyperlink-format default x
rg --engine pcre2 x
rg --engine=auto x
rg --auto-hybrid-regex x
rg -L x
rg --context-separator '\x1b[2J' -C1 x
rg --field-match-separator='\x1b' x
rg --regex-size-limit 9G x
rg -nL x
sed -i s/a/b/ a.txt
sed -ni p a.txt
sed --in-place s/a/b/ a.txt
sed -n '1e touch x' a.txt
sed '1e touch x' a.txt
sed 's/a/touch x/e' a.txt
sed 's/a/b/w out.txt' a.txt
sed 's/a/b/gw out.txt' a.txt
sed -n 'w out.txt' a.txt
sed '1r other.txt' a.txt
sed 'R other.txt' a.txt
sed 'W out.txt' a.txt
sed -n '1p;e' a.txt
sed -n '/a/{p;e
}' a.txt
sed -f script.sed a.txt
sed '1!e' a.txt
sed 'e' a.txt
sed 's/x/\x1b[2J/' a.txt
sed 's/x/\o33/' a.txt
sed 's/x/\c[/' a.txt
sed -n '\,x,e' a.txt
sed 'y/a/b/;e' a.txt
sed -s -n -e p -e 'w x' a.txt
sed --expression='1e id' a.txt
echo -e '\e]52;c;x\a'
echo -e '\033[2J'
echo -ne '\x1b[2J'
echo -nE -e '\e[2J'
echo -neE '\e[2J'
echo -n -Ee '\e[2J'
echo -E -ne '\e[2J'
echo --help
printf '\e[2J'
printf '\033[2J'
printf '%b' '\033[2J'
printf -v x y
printf '\x1b'
printf --help
seq -f '%g' 3
sleep 1d
sleep 100
sleep infinity
sleep 1 1
date -s 2020-01-01
date 010100002020
date --set=x
jq -n '$ENV'
jq -n env.PATH
jq 'input_filename' a.json
jq -f filter.jq a.json
jq 'import "a" as a; .' a.json
jq -rn '"\u001b[2J"'
jq -rn '[27]|implode'
xxd -r a.hex
md5sum -c sums.txt
base64 --decod a
tree -o out.txt
tree -l
git log --outpu=x -1
git log --output=x -1
git log -p -1
git log -u -1
git log --patch
git log -U3
git log -p --no-textconv
git log -p --ext-diff -1
git log --ext-diff --no-ext-diff --no-textconv -p
git log --textconv --no-ext-diff --no-textconv -p
git log --show-signature -1
git log --format=%G?
git log --format='%h %+GS'
git log --pretty=evil
git log --pretty='tformat:%-GG'
git log --format=%x1b[2J
git log --forma=%h
git log -S foo
git log --submodule=diff -1
git log --format=%x9b
git log --format=%xc2
git status -v
git status --verbose
git log -Gfoo
git log -L1,5:a.txt
git log --remerge-diff
git diff
git diff HEAD~1
git diff --stat -p
git diff --stat -U3
git diff --no-index /dev/null a.txt
git diff --ext-diff
git diff --output=x --stat
git show
git show HEAD
git show HEAD:a.txt
git show --stat -p
git show --show-signature
git blame a.txt
git grep -O less x
git grep -Oless x
git grep --open-files-in-pager=x y
git grep --no-index x
git grep -P x
git grep -f patterns x
git branch new
git branch -d old
git branch -D old
git branch -m a b
git branch --edit-description
git tag v1
git tag -d v1
git tag -s v1
git remote -v
git remote add x y
git remote update
git reflog expire --all
git reflog delete x
git stash
git stash pop
git worktree add x
git symbolic-ref HEAD refs/heads/x
git symbolic-ref --short HEAD refs/heads/x
git config --list
git config core.fsmonitor x
git push
git fetch
git pull
git clone x
git commit -m x
git add .
git checkout main
git reset --hard
git clean -fd
git rebase -i
git submodule update
git bisect run x
git filter-branch
git archive HEAD
git bundle create x
git difftool
git mergetool
git gc
git fsck
git ls-remote
git help log
git log-evil
git logout
git stat
git -c core.pager=x log
git -ccore.fsmonitor=x status
git -C sub status
git --git-dir=x status
git --work-tree=x status
git --exec-path=x log
git -p log
git --paginate log
git --config-env=a=b log
git log -- ':(attr:x)a'
git rev-parse --parseopt
git cat-file --textconv HEAD:a
git cat-file --batch
git cat-file --filters HEAD:a
git for-each-ref --shell
git for-each-ref --format='%(signature)'
git for-each-ref --format='%1b[2J'
git branch --format=%1B
python -m pytest -p ../x
python -m pytest --basetemp=x
python -m pytest -o cache_dir=x
pytest --pdb
pytest --pdbcls=a:b
pytest --pastebin=all
pytest --maxfai=1
pytest --debug
ruff server
ruff clean
mypy --install-types
mypy --python-executable ./x a.py
npm install
npm ci
npm publish
npm run deploy
npm run start
npm run postinstall
npm exec x
npm test --script-shell=./x
npm --prefix x test
npx cowsay
node inspect a.js
node inspect
npx -y eslint
node --test --import ./x.js
node --test-reporter=./x.js --test
node --test --test-reporter=./x.js
make CC=./x
make SHELL=./x test
make --eval='x:;touch y'
make -f - test
make -E x
cargo install x
cargo run
cargo publish
cargo +nightly test
cargo test --config x=y
cargo fix
go test -exec ./x ./...
go test -toolexec ./x ./...
go vet -vettool=./x ./...
go build -ldflags=-x ./...
go run main.go
go generate ./...
go env -w X=y
go install ./...
go get x
uv run sh -c ls
uv pip install x
pip install x
tsc --watch
eslint --rulesdir x .
eslint -f ./x.js .
jest --watch
chmod u+s a
chmod 4755 a
cp -t x a
rm --no-preserve-root -r a
tee --hel
""".strip().replace("{p;e\n}", "{p;e}").splitlines()  # fmt: skip


def _use(line: str) -> Use | None:
    plan = read_line(line)
    ((command, _),) = plan.commands
    return read_use(command, load_programs())


@pytest.mark.parametrize(
    ("lines", "kind"),
    [(READERS, ProgramClass.READER), (CONFINED, ProgramClass.CONFINED), (EFFECTS, ProgramClass.EFFECT)],
    ids=["readers", "confined", "effects"],
)
def test_ordinary_commands_are_on_the_lists(lines: list[str], kind: ProgramClass) -> None:
    wrong = []
    for line in lines:
        use = _use(line)
        if use is None or use.problem or use.opaque or use.kind is not kind:
            wrong.append((line, use))
    assert wrong == []


def test_what_starts_what_its_arguments_say_is_opaque() -> None:
    assert [line for line in OPAQUE if (use := _use(line)) is None or not use.opaque or not use.problem] == []


def test_what_writes_starts_or_leads_elsewhere_is_not_on_the_lists() -> None:
    def argv(line: str) -> Use | None:
        try:
            return _use(line)
        except ShellFormError:  # the words are judged all the same
            return read_use(Command(tuple(line.split())), load_programs())

    assert [line for line in REFUSED if (use := argv(line)) is not None and not use.problem] == []


@pytest.mark.parametrize(
    ("line", "reads", "writes", "scripts"),
    [
        ("grep a b c", ("b", "c"), (), ()),
        ("grep -e a b c", ("b", "c"), (), ()),
        ("grep -fp b", ("p", "b"), (), ()),
        ("grep -nA3 a b", ("b",), (), ()),
        ("grep a -- -b", ("-b",), (), ()),
        ("rg --files src", ("src",), (), ()),
        ("rg x --ignore-file=i .", ("i", "."), (), ()),
        ("sort -k2 a -t x b", ("a", "b"), (), ()),
        ("uniq a b", ("a",), ("b",), ()),
        ("cp a b c", ("a", "b"), ("c",), ()),
        ("mv a b", (), ("a", "b"), ()),
        ("find a b -newer c", ("c", "a", "b"), (), ()),
        ("test -f a", ("a",), (), ()),
        ("pytest a.py::b --junitxml=r.xml", ("a.py",), ("r.xml",), ()),
        ("python -m pytest a.py::b", ("a.py",), (), ()),
        ("python a.py b.py", (), (), ("a.py",)),
        ("node --test a.js b.js", (), (), ("a.js", "b.js")),
        ("bash a.sh -x", (), (), ("a.sh",)),
        ("make -f M x", (), (), ("Makefile", "M")),
        ("git show -s HEAD:a/b", ("a/b",), (), ()),
        ("git cat-file -p :0:a", ("a",), (), ()),
        ("git log main -- a b", ("main", "a", "b"), (), ()),
        ("go vet ./a/... fmt", ("./a/",), (), ("go.mod",)),
        ("ruff check -o r.txt a", ("a",), ("r.txt",), ()),
    ],
)
def test_paths_are_found_where_the_program_finds_them(
    line: str, reads: tuple[str, ...], writes: tuple[str, ...], scripts: tuple[str, ...]
) -> None:
    use = _use(line)
    assert use is not None
    assert (use.reads, use.writes, use.scripts) == (reads, writes, scripts)


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("git diff", "git_diff"),
        ("git show HEAD", "git_show"),
        ("git log -p -1", "git_show"),
        ("git commit -m x", "git_commit"),
        ("sed -i s/a/b/ a", "edit"),
        ("grep -oP x a", "-E"),
        ("tail -f a", "never ends"),
        ("git blame a", "--no-textconv"),
        ("diff -r a b", "--no-dereference"),
    ],
)
def test_a_refusal_says_what_to_do_instead(line: str, fix: str) -> None:
    use = _use(line)
    assert use is not None
    assert use.problem
    assert fix in use.fix


@pytest.mark.parametrize(
    ("argv", "bins", "listed"),
    [
        (("/usr/bin/git", "status"), (), True),
        (("/bin/ls",), (), True),
        (("/usr/local/bin/rg", "x"), (), True),
        ((".venv/bin/pytest",), (".venv/bin",), True),
        (("./.venv/bin/pytest",), (".venv/bin/",), True),
        ((".venv/bin/pytest",), (), False),
        (("evil/.venv/bin/pytest",), (".venv/bin",), False),
        (("evil/../.venv/bin/pytest",), (".venv/bin",), False),
        (("/tmp/.venv/bin/pytest",), (".venv/bin",), False),
        (("./ls",), (), False),
        (("/ws/evil/ls",), (), False),
        (("../ws/evil/ls",), (), False),
        (("/usr/bin/../../ws/ls",), (), False),
        (("/usr/bin/evil/ls",), (), False),
        (("//usr/bin/ls",), (), False),
    ],
)
def test_only_programs_in_vouched_folders_are_listed(
    argv: tuple[str, ...], bins: tuple[str, ...], listed: bool
) -> None:
    use = read_use(Command(argv), load_programs(), bins=bins)
    assert use is not None
    assert use.listed is listed
    assert bool(use.problem) is not listed
    assert listed or use.scripts == (argv[0],)


@pytest.mark.parametrize("name", ["lsof", "git-log", "LS", "curl", "ls ", "tar", "dd"])
def test_a_name_without_a_file_has_no_use(name: str) -> None:
    assert read_use(Command((name,)), load_programs()) is None


def _tables() -> Iterator[Program]:
    for program in load_programs().values():
        yield program
        yield from program.verbs.values()


def test_no_abbreviation_of_a_long_option_is_taken() -> None:
    wrong = []
    for name, program in load_programs().items():
        for verb, table in {"": program, **program.verbs}.items():
            if table.literal or table.reads_as:
                continue
            known = {*table.flags, *table.values, *table.attached}
            long = [option for option in known if option.startswith("--")]
            for short in {option[:end] for option in long for end in range(4, len(option))} - known:
                use = read_use(Command((name, *verb.split(), short, "x")), load_programs())
                if use is None or not use.problem:
                    wrong.append((name, verb, short))
    assert wrong == []


@quick
@given(st.sampled_from(sorted(load_programs())), st.lists(st.text("-abcdefx=/.0 ", max_size=6), max_size=5))
def test_reading_never_fails_and_an_unlisted_option_is_a_problem(name: str, words: list[str]) -> None:
    assert read_use(Command((name, *words)), load_programs()) is not None
    unlisted = read_use(Command((name, "--kairos-never-heard-of-it", *words)), load_programs())
    assert unlisted is not None
    assert unlisted.problem or load_programs()[name].literal


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({}, "class"),
        ({"class": "harmless"}, "class"),
        ({"class": "reader", "flag": "-a"}, "flag"),
        ({"class": "reader", "flags": ["-a"]}, "flags"),
        ({"class": "reader", "flags": "-a -a"}, "-a"),
        ({"class": "reader", "flags": "a"}, "flags"),
        ({"class": "reader", "flags": "-a", "values": {"text": "-a"}}, "-a"),
        ({"class": "reader", "values": {"txt": "-a"}}, "txt"),
        ({"class": "reader", "values": {"text": "-a", "read": "-a"}}, "-a"),
        ({"class": "reader", "rest": "files"}, "files"),
        ({"class": "reader", "words": "yes"}, "words"),
        ({"class": "reader", "otherwise": "allow"}, "otherwise"),
        ({"class": "reader", "needs": {"-p": "-q"}}, "-p"),
        ({"class": "reader", "instead": "-e"}, "-e"),
        ({"class": "reader", "fixes": {"-e": 1}}, "-e"),
        ({"class": "reader", "verbs": {"log": 1}}, "log"),
        ({"class": "reader", "verbs": {"log": {"class": "none"}}}, "class"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_the_key(table: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        parse_program("example", table)
    assert "example" in str(caught.value)


def test_every_file_is_a_program_and_every_verb_that_is_read_as_another_names_one() -> None:
    for table in _tables():
        assert not table.reads_as or table.reads_as in load_programs()
    for file in files("kairosd.programs").iterdir():
        if file.name.endswith(".toml") and file.name != "opaque.toml":
            assert set(tomllib.loads(file.read_text())) <= {"names", "class", *Program.__dataclass_fields__}
