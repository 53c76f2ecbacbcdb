package spec

// GoFields are the paths of the fields that rows of the table have in helve.Options.
func GoFields() []string {
	var paths []string
	for _, o := range optionTable {
		if o.names[len(o.names)-1].code != "" {
			paths = append(paths, o.goPath)
		}
	}
	return paths
}
