package keeper

import "errors"

// upgrade replaces the node, and then the program of the keeper, by another executable. Its steps are told to the command.
func (k *Keeper) upgrade(_ *Conn, _ Upgrade) error {
	return errors.New("this keeper has no upgrade in place yet: end it, and start the new program")
}

// resumeUpgrade goes on after the program of the keeper was replaced.
func (k *Keeper) resumeUpgrade() {}
