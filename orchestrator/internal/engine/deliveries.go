package engine

import "iter"

// deliveries are the commands of one saga that are in flight. Most sagas have one at a time, which needs no map.
type deliveries struct {
	first  *delivery                 // one of them, or nil
	others map[deliveryKey]*delivery // the others
}

// get returns the command's delivery, or nil.
func (ds *deliveries) get(key deliveryKey) *delivery {
	if ds.first != nil && ds.first.key == key {
		return ds.first
	}
	return ds.others[key]
}

// add adds the delivery of a command that has none yet.
func (ds *deliveries) add(d *delivery) {
	if ds.first == nil {
		ds.first = d
		return
	}
	if ds.others == nil {
		ds.others = make(map[deliveryKey]*delivery)
	}
	ds.others[d.key] = d
}

// remove removes the command's delivery, if there is one.
func (ds *deliveries) remove(key deliveryKey) {
	if ds.first != nil && ds.first.key == key {
		ds.first = nil
		return
	}
	delete(ds.others, key)
}

// len returns how many there are.
func (ds *deliveries) len() int {
	n := len(ds.others)
	if ds.first != nil {
		n++
	}
	return n
}

// all iterates over the deliveries in no particular order. Those that it has returned may be removed meanwhile.
func (ds *deliveries) all() iter.Seq[*delivery] {
	return func(yield func(*delivery) bool) {
		if ds.first != nil && !yield(ds.first) {
			return
		}
		for _, d := range ds.others {
			if !yield(d) {
				return
			}
		}
	}
}
