# Completion of pypoolctl for bash. Nothing about commands and options stands here: pypoolctl words says what there is.
# shellcheck shell=bash

# The kind of value that an option takes ($1), by the lines that are in `lines`; nothing: it takes none.
_pypoolctl_value() {
	local line
	for line in "${lines[@]}"; do
		if [[ $line == "$1 "* ]]; then
			printf '%s\n' "${line#* }"
			return
		fi
	done
}

# Looks at the words before the cursor: which command it is, which socket, and which kind of value an option waits for.
_pypoolctl_read() {
	local i word option=
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $word == "=" ]]; then # --pool=x is three words
			continue
		elif [[ $kind ]]; then
			[[ $option == --socket ]] && socket=(--socket "$word")
			kind=
		elif [[ $word == -* ]]; then
			option=$word
			kind=$(_pypoolctl_value "$word")
		elif [[ ! $command ]]; then
			command=$word
			mapfile -t lines < <("$ctl" words "$command" 2>/dev/null)
		fi
		before=$word
	done
}

# What may stand at the cursor: options, words, and what there is of the kinds.
_pypoolctl_offer() {
	local line
	if [[ $kind ]]; then
		lines=("$kind")
	elif [[ $before && " ${lines[*]} " == *" $before "* && " ${lines[*]} " == *" ${before^^} "* ]]; then # why worker
		lines=("${before^^}")
	fi
	for line in "${lines[@]}"; do
		if [[ $line == -* ]]; then
			[[ $current == -* ]] && printf '%s\n' "${line%% *}"
		elif [[ $line == PATH ]]; then
			compgen -f -- "$current"
		elif [[ $line == [A-Z]* ]]; then
			"$ctl" "${socket[@]}" words "$line" 2>/dev/null
		else
			printf '%s\n' "$line"
		fi
	done
}

_pypoolctl() {
	local ctl=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]} command='' kind='' before='' word
	local -a lines socket=()
	[[ $current == "=" ]] && current=
	COMPREPLY=()
	mapfile -t lines < <("$ctl" words 2>/dev/null)
	_pypoolctl_read
	while IFS= read -r word; do
		[[ $word == "$current"* ]] && COMPREPLY+=("$(printf '%q' "$word")")
	done < <(_pypoolctl_offer)
}

complete -F _pypoolctl pypoolctl
