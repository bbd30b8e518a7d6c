# Sourced by scripts/lab: the same experiment in virtual time is the same to the byte, on a busy machine too.

lab_hogs=()

# check_repeatable: three runs, two of them beside a hog on every core, then another seed
check_repeatable() {
  local results core run seed
  prepare_packages iproute2 iperf3 ethtool
  prepare_venv run
  results=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "end_hogs; rm -rf '$results'" EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  for run in alone busy-1 busy-2 other-seed; do
    seed=1
    case $run in
      busy-1) for core in $(seq "$(nproc)"); do (while :; do :; done) & lab_hogs+=("$!"); done ;;
      other-seed) end_hogs; seed=2 ;;
    esac
    printf '%-10s ' "$run"
    mkdir "$results/$run"
    (cd / && "$root/scripts/lab" run --virtual-time --seed "$seed" --out "$results/$run" -- \
      /run/checkout/scripts/uml/checkout /run/checkout/scripts/uml/experiment.py) >"$results/$run/verdict" 2>"$results/$run/figures" || true
    cat "$results/$run/figures"
  done
  for run in busy-1 busy-2; do
    diff -r "$results/alone" "$results/$run" >/dev/null || fail 1 "the run $run differs from the one alone"
  done
  ! cmp -s "$results/alone/packets" "$results/other-seed/packets" || fail 1 "another seed gave the same packets"
  for run in alone other-seed; do
    [ "$(cat "$results/$run/verdict")" = holds ] || fail 1 "$run $(cat "$results/$run/verdict")"
  done
  echo "repeatable: three times the same $(wc -l <"$results/alone/packets") packets; other packets with another seed"
}

end_hogs() {
  [ "${#lab_hogs[@]}" -eq 0 ] || kill "${lab_hogs[@]}" 2>/dev/null || true
  lab_hogs=()
}
