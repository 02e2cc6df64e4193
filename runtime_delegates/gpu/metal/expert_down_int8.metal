// Written by build_shaders.py from shaders/expert_down.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _388 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _391 = (THREADS * TOKENS);
constant uint _392 = (_391 * 2u);
constant uint _417 = (64u * TOKENS);
constant uint _453 = (64u * TOKENS);
constant bool _505 = (TOKENS > 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint experts;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint all_experts;
    uint classes;
    uint flags;
    uint residual_stride;
};

constant uint _566 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _684 = (1u << TOKENS);
constant uint _685 = (_684 - 1u);
constant uint _698 = (64u * TOKENS);
constant bool _789 = (TOKENS == 1u);
constant int _790 = _789 ? 8 : 4;
constant uint _791 = (uint(_790) + 0u);
constant bool _809 = (TOKENS == 1u);
constant bool _863 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _915 = (TOKENS == 1u);
constant int _916 = _915 ? 8 : 4;
constant uint _917 = (uint(_916) + 0u);
constant bool _922 = (TOKENS != 1u);
constant bool _958 = (TOKENS != 1u);
constant bool _1013 = (TOKENS == 1u);
constant bool _1128 = (TOKENS == 1u);
constant int _1129 = _1128 ? 8 : 4;
constant uint _1130 = (uint(_1129) + 0u);
constant uint _1155 = (8u * TOKENS);

struct Y
{
    float y[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1225 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1225, 1u, 1u);

kernel void expert_down_int8(constant Push& p [[buffer(0)]], const device Weights& _120 [[buffer(1)]], const device X& _882 [[buffer(2)]], device Y& _1194 [[buffer(3)]], const device Route& _585 [[buffer(4)]], const device Step& _512 [[buffer(5)]], const device Residual& _1210 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_392];
    threadgroup float chunk_sums[_453];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_698];
    do
    {
        uint _504 = gl_WorkGroupID.y * TOKENS;
        bool _516;
        if (_505)
        {
            _516 = _504 >= _512.step_[0];
        }
        else
        {
            _516 = _505;
        }
        if (_516)
        {
            break;
        }
        uint _1236 = ((p.cols + 7u) / 8u) * 4u;
        uint _534 = THREADS / p.classes;
        uint _538 = gl_LocalInvocationID.x / _534;
        uint _542 = 64u / p.classes;
        uint _1244 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _558 = 16u + ((_1244 * p.classes) * 4u);
        float acc[16];
        for (uint _1658 = 0u; _1658 < _566; )
        {
            acc[_1658] = 0.0;
            _1658++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _585.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[8][1];
        uint pair[8];
        float4 hidden[8][2];
        uint _1670;
        for (uint _1659 = 0u, _1671 = 1u; _1659 < _1236; _1671 = _1670, _1659 += _534)
        {
            _1670 = _1671;
            uint _1727;
            for (uint _1669 = 0u; _1669 < _1670; _1670 = _1727, _1669 += _542)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1673;
                _1673 = gl_LocalInvocationID.x;
                for (; _1673 < 64u; _1673 += THREADS)
                {
                    uint _636 = ((_1673 / _542) * _1244) + min((_1669 + (_1673 % _542)), (_1244 - 1u));
                    uint _640 = 16u + (_636 * 4u);
                    uint _646 = _585.route[_640] - p.first_expert;
                    bool _655 = _646 < p.experts;
                    slot_expert[_1673] = _655 ? _646 : 0u;
                    uint _1729;
                    if (_655)
                    {
                        _1729 = (_585.route[_640 + uint((_504 < 32u) ? 1 : 2)] >> (_504 & 31u)) & _685;
                    }
                    else
                    {
                        _1729 = 0u;
                    }
                    slot_mask[_1673] = _1729;
                    for (uint _1730 = 0u; _1730 < TOKENS; )
                    {
                        slot_weight[(_1673 * TOKENS) + _1730] = as_type<float>(_585.route[((_558 + (_636 * 64u)) + _504) + _1730]);
                        _1730++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1727 = _1670;
                for (uint _1674 = 0u; _1674 < p.classes; )
                {
                    _1727 = max(_1727, counts[_1674]);
                    _1674++;
                    continue;
                }
                uint _744 = _1659 + (gl_LocalInvocationID.x % _534);
                uint _748 = _538 * _542;
                uint _1679;
                if ((_744 < _1236) && (counts[_538] > _1669))
                {
                    _1679 = min((counts[_538] - _1669), _542);
                }
                else
                {
                    _1679 = 0u;
                }
                for (uint _1680 = 0u; _1680 < _1679; _1680 += _1130)
                {
                    for (uint _1683 = 0u; _1683 < 8u; _1683++)
                    {
                        if (_1683 >= _791)
                        {
                            continue;
                        }
                        uint _800 = _1680 + _1683;
                        uint _804 = _748 + min(_800, (_1679 - 1u));
                        bool _825;
                        if (!_809)
                        {
                            bool _817 = _800 < _1679;
                            bool _824;
                            if (_817)
                            {
                                _824 = slot_mask[_804] != 0u;
                            }
                            else
                            {
                                _824 = _817;
                            }
                            _825 = _824;
                        }
                        else
                        {
                            _825 = _809;
                        }
                        if (_825)
                        {
                            uint _840 = (p.first + (slot_expert[_804] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1649[1] = { _120.weights[_840 + _744] };
                            spvArrayCopyFromStackToStack1(raw[_1683], _1649);
                            pair[_1683] = ((device uint*)&_120.weights[_840 + _1236])[_744 & 3u];
                        }
                        if (_863)
                        {
                            uint _891 = ((p.first_expert + slot_expert[_804]) * 64u) * p.x_stride;
                            uint _1263 = (_744 >> uint(2)) * 2u;
                            hidden[_1683][0u] = _882.x[_891 + _1263];
                            hidden[_1683][1u] = _882.x[_891 + (_1263 + 1u)];
                        }
                    }
                    for (uint _1684 = 0u; _1684 < 8u; _1684++)
                    {
                        bool _918 = _1684 >= _917;
                        bool _931;
                        if (!_918)
                        {
                            bool _930;
                            if (_922)
                            {
                                _930 = (_1680 + _1684) >= _1679;
                            }
                            else
                            {
                                _930 = _922;
                            }
                            _931 = _930;
                        }
                        else
                        {
                            _931 = _918;
                        }
                        if (_931)
                        {
                            continue;
                        }
                        uint _943 = _748 + min((_1680 + _1684), (_1679 - 1u));
                        uint _1691;
                        if ((_1680 + _1684) < _1679)
                        {
                            _1691 = slot_mask[_943];
                        }
                        else
                        {
                            _1691 = 0u;
                        }
                        if (_958 && (_1691 == 0u))
                        {
                            continue;
                        }
                        uint _1296 = raw[_1684][0].x ^ 2155905152u;
                        float _1319 = as_type<float>((_1296 & 255u) | 1258291200u) - 8388736.0;
                        float _1327 = as_type<float>(((_1296 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1335 = as_type<float>(((_1296 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1343 = as_type<float>((_1296 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1932 = raw[_1684][0].y ^ 2155905152u;
                        float _1936 = as_type<float>((_1932 & 255u) | 1258291200u) - 8388736.0;
                        float _1941 = as_type<float>(((_1932 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1946 = as_type<float>(((_1932 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1950 = as_type<float>((_1932 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1962 = raw[_1684][0].z ^ 2155905152u;
                        float _1966 = as_type<float>((_1962 & 255u) | 1258291200u) - 8388736.0;
                        float _1971 = as_type<float>(((_1962 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1976 = as_type<float>(((_1962 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1980 = as_type<float>((_1962 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1992 = raw[_1684][0].w ^ 2155905152u;
                        float _1996 = as_type<float>((_1992 & 255u) | 1258291200u) - 8388736.0;
                        float _2001 = as_type<float>(((_1992 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _2006 = as_type<float>(((_1992 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _2010 = as_type<float>((_1992 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _1348 = pair[_1684] & 65535u;
                        uint _1363 = _1348 & 32767u;
                        uint _1365 = _1363 << uint(13);
                        float _1380 = (_1363 < 1024u) ? (as_type<float>(947912704u | _1365) - 6.103515625e-05) : as_type<float>(_1365 + ((_1363 < 31744u) ? 939524096u : 1879048192u));
                        float _1695;
                        if ((_1348 & 32768u) != 0u)
                        {
                            _1695 = -_1380;
                        }
                        else
                        {
                            _1695 = _1380;
                        }
                        uint _1352 = pair[_1684] >> uint(16);
                        uint _1399 = _1352 & 32767u;
                        uint _1401 = _1399 << uint(13);
                        float _1416 = (_1399 < 1024u) ? (as_type<float>(947912704u | _1401) - 6.103515625e-05) : as_type<float>(_1401 + ((_1399 < 31744u) ? 939524096u : 1879048192u));
                        float _1696;
                        if ((_1352 & 32768u) != 0u)
                        {
                            _1696 = -_1416;
                        }
                        else
                        {
                            _1696 = _1416;
                        }
                        uint _994 = (((p.first_expert + slot_expert[_943]) * 64u) + _504) * p.x_stride;
                        for (uint _1697 = 0u; _1697 < TOKENS; _1697++)
                        {
                            float4 _1717;
                            if (_1013)
                            {
                                _1717 = hidden[_1684][0u];
                            }
                            else
                            {
                                _1717 = _882.x[(_994 + (_1697 * p.x_stride)) + ((_744 >> uint(2)) * 2u)];
                            }
                            float4 _2035;
                            if (_1013)
                            {
                                _2035 = hidden[_1684][1u];
                            }
                            else
                            {
                                _2035 = _882.x[(_994 + (_1697 * p.x_stride)) + (((_744 >> uint(2)) * 2u) + 1u)];
                            }
                            uint _1073 = (_943 * TOKENS) + _1697;
                            uint _1096 = _1697 * 2u;
                            bool _1108 = (((_1691 >> _1697) & 1u) != 0u) && true;
                            float _1704;
                            if (_1108)
                            {
                                _1704 = fma(spvFMul(slot_weight[_1073], _1695), fma(_1950, _2035.w, fma(_1946, _2035.z, fma(_1941, _2035.y, fma(_1936, _2035.x, fma(_1343, _1717.w, fma(_1335, _1717.z, fma(_1327, _1717.y, spvFMul(_1319, _1717.x)))))))), acc[_1096]);
                            }
                            else
                            {
                                _1704 = acc[_1096];
                            }
                            acc[_1096] = _1704;
                            uint _2117 = _1096 + 1u;
                            float _2131;
                            if (_1108)
                            {
                                _2131 = fma(slot_weight[_1073] * _1696, fma(_2010, _2035.w, fma(_2006, _2035.z, fma(_2001, _2035.y, fma(_1996, _2035.x, fma(_1980, _1717.w, fma(_1976, _1717.z, fma(_1971, _1717.y, _1966 * _1717.x))))))), acc[_2117]);
                            }
                            else
                            {
                                _2131 = acc[_2117];
                            }
                            acc[_2117] = _2131;
                        }
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1660 = 0u; _1660 < _388; )
        {
            partial[(_1660 * THREADS) + gl_LocalInvocationID.x] = param[_1660];
            _1660++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1661 = gl_LocalInvocationID.x; _1661 < _417; _1661 += THREADS)
        {
            uint _1585 = (((_1661 / 32u) * THREADS) + ((_1661 / 8u) % 4u)) + (4u * (_1661 % 8u));
            float _1668;
            _1668 = partial[_1585];
            for (uint _1666 = 32u; _1666 < THREADS; )
            {
                _1668 = spvFAdd(_1668, partial[_1585 + _1666]);
                _1666 += 32u;
                continue;
            }
            chunk_sums[_1661] = _1668;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1148 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1153 = _504 + (gl_LocalInvocationID.x / 8u);
        bool _1156 = gl_LocalInvocationID.x >= _1155;
        bool _1165;
        if (!_1156)
        {
            _1165 = _1148 >= p.rows;
        }
        else
        {
            _1165 = _1156;
        }
        if (_1165)
        {
            break;
        }
        uint _1175 = (_1153 * p.y_stride) + _1148;
        uint _1180 = gl_LocalInvocationID.x % 8u;
        uint _1626 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1180 % 2u)) * 4u) + (_1180 / 2u)) * 8u;
        float _1901 = (((((spvFAdd(chunk_sums[_1626], chunk_sums[_1626 + 1u]) + chunk_sums[_1626 + 2u]) + chunk_sums[_1626 + 3u]) + chunk_sums[_1626 + 4u]) + chunk_sums[_1626 + 5u]) + chunk_sums[_1626 + 6u]) + chunk_sums[_1626 + 7u];
        float _1664;
        if ((p.flags & 1u) != 0u)
        {
            _1664 = spvFAdd(_1901, _1194.y[_1175]);
        }
        else
        {
            _1664 = _1901;
        }
        float _1665;
        if ((p.flags & 2u) != 0u)
        {
            _1665 = spvFAdd(_1664, _1210.residual[(_1153 * p.residual_stride) + _1148]);
        }
        else
        {
            _1665 = _1664;
        }
        _1194.y[_1175] = _1665;
        break;
    } while(false);
}

